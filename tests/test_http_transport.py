"""Reading over HTTP: unchanged files cost nothing, broken answers are told, credentials stay."""

from pathlib import Path

import pytest
from flaky_server import Answer, Asked, FlakyServer
from public_server import serve_root
from signing_keys import make_certificate
from versions import publish

from teacherd.models.http_transport import HttpTransport
from teacherd.models.transport import TransportError

CONTENT = bytes(range(256)) * 10


def test_an_unchanged_file_is_not_sent_again(tmp_path: Path) -> None:
    """By its entity tag; after `forget`, and for a plain `read`, it comes whole."""
    publish(tmp_path, 1)
    with serve_root(tmp_path) as address:
        transport = HttpTransport(address)
        content = (tmp_path / "current").read_bytes()

        assert content == transport.read_if_changed("current", largest_bytes=1000)
        assert transport.read_if_changed("current", largest_bytes=1000) is None
        assert content == transport.read("current", largest_bytes=1000)
        transport.forget("current")
        assert content == transport.read_if_changed("current", largest_bytes=1000)
        publish(tmp_path, 2)
        assert content != transport.read_if_changed("current", largest_bytes=1000)


def test_https_is_verified(tmp_path: Path) -> None:
    """With the certificate that was given; without it nothing is read."""
    certificate, key = make_certificate(tmp_path)
    publish(tmp_path / "public", 1)
    settings = {"certificate_file": str(certificate), "key_file": str(key)}
    with serve_root(tmp_path / "public", **settings) as address:
        trusting = HttpTransport(address, ca_file=str(certificate))

        assert address.startswith("https://")
        assert b"manifest_sha256" in trusting.read("current", largest_bytes=1000)
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as raised:
            HttpTransport(address).read("current", largest_bytes=1000)

    assert "unreachable" == raised.value.reason


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (Answer(status=404), "missing", "404"),
        (Answer(status=500), "unreachable", "500"),
        (Answer(status=403), "unreachable", "403"),
        (Answer(body=b"x" * 101), "size", "more than the 100 bytes"),
        (Answer(body=b"x", announced=50), "unreachable", "breaks off"),
        (Answer(status=302, headers={"Location": "file:///etc/passwd"}), "unreachable", "302"),
        (Answer(status=302, headers={"Location": "ftp://127.0.0.1/"}), "unreachable", "302"),
    ],
)
def test_bad_answers_are_errors_by_reason(answer: Answer, reason: str, detail: str) -> None:
    """Nothing of them is taken for the file."""
    with FlakyServer(lambda _: answer) as server:
        transport = HttpTransport(server.url)

        with pytest.raises(TransportError, match=detail) as raised:
            transport.read("current", largest_bytes=100)

    assert reason == raised.value.reason


def test_nobody_there_is_unreachable() -> None:
    """A daemon that restarts is away for a moment."""
    with FlakyServer(lambda _: Answer()) as server:
        url = server.url

    with pytest.raises(TransportError, match="does not answer") as raised:
        HttpTransport(url).read("current", largest_bytes=100)

    assert "unreachable" == raised.value.reason


def ranges(asked: Asked) -> Answer:
    """Answer ranges as a good server does."""
    start = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
    body = CONTENT[start:]
    where = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return Answer(status=206, body=body, headers={"Content-Range": where})


def test_a_stream_begins_where_it_is_told() -> None:
    """With a range; from the beginning without one."""
    with FlakyServer(
        lambda asked: ranges(asked) if "range" in asked.headers else Answer(body=CONTENT)
    ) as server:
        transport = HttpTransport(server.url)
        whole = list(transport.stream("w", start=0, end=len(CONTENT)))
        part = list(transport.stream("w", start=100, end=len(CONTENT)))

    assert [(0, CONTENT)] == whole
    assert [(100, CONTENT[100:])] == part
    assert f"bytes=100-{len(CONTENT) - 1}" == server.asked[1].headers["range"]


def test_a_server_without_ranges_begins_at_the_beginning() -> None:
    """And the places of the pieces say so."""
    with FlakyServer(lambda _: Answer(body=CONTENT)) as server:
        pieces = list(HttpTransport(server.url).stream("w", start=100, end=len(CONTENT)))

    assert [(0, CONTENT)] == pieces


@pytest.mark.parametrize("where", ["", "bytes */10", "bytes x-9/10"])
def test_a_part_that_does_not_say_which_is_refused(where: str) -> None:
    """Bytes must not land in the wrong place."""
    answer = Answer(status=206, body=b"x", headers={"Content-Range": where})
    with FlakyServer(lambda _: answer) as server, pytest.raises(TransportError, match="not which"):
        list(HttpTransport(server.url).stream("w", start=5, end=10))


def test_credentials_are_sent_and_not_shown() -> None:
    """User and password of the URL, and headers, reach the server and no message."""
    with FlakyServer(lambda _: Answer(body=b"x")) as server:
        url = server.url.replace("http://", "http://me:p%40ss@")
        transport = HttpTransport(f"{url}/public?signature=abc", headers={"X-Token": "t"})
        transport.read("current", largest_bytes=10)

    asked = server.asked[0]
    assert "/public/current?signature=abc" == asked.path
    assert ("Basic bWU6cEBzcw==", "t") == (asked.headers["authorization"], asked.headers["x-token"])
    assert f"{server.url}/public/current" == transport.place("current")


def test_a_redirection_takes_no_credentials_to_another_host() -> None:
    """They were given to one host; on the same one they are kept."""
    with (
        FlakyServer(lambda _: Answer(body=b"x")) as other,
        FlakyServer(lambda _: Answer()) as first,
    ):

        def redirect(asked: Asked) -> Answer:
            if asked.path == "/here":
                return Answer(body=b"here")
            target = {"/away": other.url, "/near": f"{first.url}/here"}[asked.path]
            return Answer(status=302, headers={"Location": target})

        first.answer = redirect
        transport = HttpTransport(first.url, headers={"Authorization": "Bearer secret"})

        assert b"x" == transport.read("away", largest_bytes=10)
        assert b"here" == transport.read("near", largest_bytes=10)

    assert "authorization" not in other.asked[0].headers
    assert "Bearer secret" == first.asked[-1].headers["authorization"]


def test_a_url_without_a_host_is_refused() -> None:
    """At once, with the form that is wanted."""
    with pytest.raises(ValueError, match=r"root: http:///x: names no host"):
        HttpTransport("http:///x")
