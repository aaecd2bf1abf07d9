"""Asks a running daemon for its status, and words the answer for a person."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from teacherd.daemon.errors import UnavailableError

_TIMEOUT_SECONDS = 5.0


def fetch_status(url: str) -> dict[str, Any]:
    """Return what /status answers.

    Raises:
        UnavailableError: No daemon answers there.
    """
    if not url.startswith(("http://", "https://")):
        raise UnavailableError(f"{url!r} is no http address")
    try:
        with urllib.request.urlopen(f"{url}/status", timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 (scheme checked above)
            status: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(
            f"no daemon answers at {url}: {reason}; is it running, and is this its endpoints.port?"
        ) from error
    return status


def describe(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the status as rows of name and value."""
    rows = [("state", str(status.get("state")))]
    for section, values in status.items():
        if isinstance(values, Mapping):
            rows += [(f"{section}.{name}", _word(value)) for name, value in values.items()]
    return rows


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_word(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
