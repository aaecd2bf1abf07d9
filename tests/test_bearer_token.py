"""A token is compared as the bytes that come over the network."""

import pytest
from starlette.requests import Request

from teacherd.daemon.bearer_token import BearerToken
from teacherd.daemon.endpoints import EndpointsConfig, read_token


def request_with(*headers: tuple[bytes, bytes]) -> Request:
    """Return a request as the server gives it."""
    return Request({"type": "http", "headers": list(headers)})


@pytest.mark.parametrize("token", ["correct-horse", "Schl\u00fcssel", "\u9375"])
def test_a_token_of_any_letters_is_known_again(token: str) -> None:
    """Curl and most others send a file's bytes as they are."""
    header = (b"authorization", b"Bearer " + token.encode())

    assert BearerToken(token).is_shown(request_with(header))


@pytest.mark.parametrize(
    "shown", ["", "Bearer ", "Bearer correct-hors", "Bearer Schl\u00c3\u00bcssel"]
)
def test_any_other_is_not(shown: str) -> None:
    """Neither a part of it nor bytes that only look like it."""
    header = (b"authorization", shown.encode())

    assert not BearerToken("correct-horse").is_shown(request_with(header))
    assert not BearerToken("Schl\u00fcssel").is_shown(request_with(header))
    assert not BearerToken("Schl\u00fcssel").is_shown(request_with())


def test_spaces_around_a_token_of_the_settings_are_none_of_it() -> None:
    """No header can carry them: whoever set them would be locked out."""
    config = EndpointsConfig(token=" correct-horse\n")  # noqa: S106 (of a test)

    assert "correct-horse" == read_token(config)
