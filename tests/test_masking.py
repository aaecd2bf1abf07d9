"""Secrets in settings that are shown: hidden by the name of their key, and in URLs."""

from dataclasses import asdict

import pytest

from teacherd.daemon.config import Config, to_plain
from teacherd.daemon.masking import MASK, mask


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "aws_secret_access_key",
        "key",
        "account_key",
        "password",
        "sasl_plain_password",
        "sasl_oauth_token",
        "token",
        "Authorization",
        "credential",
        "passwd",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(key: str) -> None:
    """At any depth, in lists too."""
    settings = {"mirrors": {"a": {"options": {key: "s3cret", "more": [{key: "s3cret"}]}}}}

    shown = {"mirrors": {"a": {"options": {key: MASK, "more": [{key: MASK}]}}}}
    assert shown == mask(settings)


@pytest.mark.parametrize("key", ["key_file", "secret_file", "keep", "topic", "monkey", "tokens"])
def test_what_is_no_secret_is_shown(key: str) -> None:
    """The file that holds a secret is named, its content is not known."""
    assert {key: "value"} == mask({key: "value"})


def test_a_password_in_a_url_is_hidden() -> None:
    """The rest of the URL is what one wants to see."""
    assert f"ftp://me:{MASK}@host/x" == mask("ftp://me:pass@host/x")
    assert "s3://bucket/a@b:c" == mask("s3://bucket/a@b:c")


def test_no_default_is_a_secret() -> None:
    """What comes out of the box is shown as it is."""
    settings = to_plain(asdict(Config()))

    assert settings == mask(settings)


def test_of_a_webhook_only_the_host_is_shown() -> None:
    """Whoever has its path can post."""
    settings = {"notifications": {"webhook_url": "https://a.org/T0/B0/x", "command": None}}
    shown = {"notifications": {"webhook_url": f"https://a.org/{MASK}", "command": None}}

    assert shown == mask(settings)
    assert {"webhook_url": None} == mask({"webhook_url": None})
