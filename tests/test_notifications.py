"""The settings of notifications: what is wrong with them is told without telling their secrets."""

from pathlib import Path

import pytest

from teacherd.daemon.config import load_config
from teacherd.daemon.errors import ConfigurationError
from teacherd.daemon.notifications import NotificationsConfig, check_receivers, mask_webhook

PATH = "T00-B00-secret"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{PATH}",
        f"https:///{PATH}",
        f"https://me:{PATH}@host/",
        f"https://host/{PATH} x",
        f"https://host:99999/{PATH}",
        f"https://host:port/{PATH}",
        f"{PATH}",
        f"https://host/{PATH}\u00e9",
    ],
)
def test_a_url_that_nobody_could_post_to_is_refused_and_not_shown(url: str) -> None:
    """The key is named, the value is not: it may be all that protects the channel."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(None, environment={"TEACHERD_NOTIFICATIONS__WEBHOOK_URL": url})

    assert ["notifications.webhook_url"] == [each.key for each in caught.value.problems]
    assert PATH not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"command": ()}, "command"),
        ({"command": ("",)}, "command"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"max_backoff_seconds": 0.0}, "max_backoff_seconds"),
        ({"give_up_seconds": -1.0}, "give_up_seconds"),
        ({"max_waiting": 0}, "max_waiting"),
    ],
)
def test_a_value_against_a_rule_is_told(settings: dict[str, object], key: str) -> None:
    """With its key first, for the dotted one."""
    with pytest.raises(ValueError, match=f"^{key}: .*; take"):
        NotificationsConfig(**settings)  # type: ignore[arg-type]  # that is the point


def test_who_is_told_is_who_is_configured() -> None:
    """By default nobody."""
    both = NotificationsConfig(webhook_url="http://host/x", command=("cat",))

    assert () == NotificationsConfig().receivers
    assert ("webhook", "command") == both.receivers
    assert "https://host:8443/***" == mask_webhook(f"https://host:8443/{PATH}?k=v", mask="***")


def test_the_token_is_the_files_one_line(tmp_path: Path) -> None:
    """With or without an end of line."""
    path = tmp_path / "token"
    path.write_text(f"{PATH}\n")

    assert PATH == check_receivers(NotificationsConfig(webhook_token_file=str(path)))
    assert check_receivers(NotificationsConfig()) is None


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff\xfe", b"caf\xc3\xa9"])
def test_a_token_that_no_header_can_carry_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Before the daemon starts, and with the name of its file."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"notifications\.webhook_token_file: .*token"):
        check_receivers(NotificationsConfig(webhook_token_file=str(path)))


def test_a_command_that_is_not_there_is_refused() -> None:
    """Before the daemon starts."""
    with pytest.raises(ConfigurationError, match=r"notifications\.command: no-such: is no program"):
        check_receivers(NotificationsConfig(command=("no-such", "argument")))
