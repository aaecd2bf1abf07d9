"""Asks a running daemon for its status, and words the answer for a person."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.wording import word

_TIMEOUT_SECONDS = 5.0


def fetch_status(url: str) -> dict[str, Any]:
    """Return what /status answers.

    Raises:
        UsageError: It is no address.
        UnavailableError: No daemon answers there.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url: {url!r}: must begin with http:// or https://")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/status", timeout=_TIMEOUT_SECONDS) as got:  # noqa: S310 (scheme checked above)
            status = json.load(got)
    except urllib.error.HTTPError as error:
        with error:
            raise _nobody(url, error.reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _nobody(url, getattr(error, "reason", error)) from error
    if not isinstance(status, dict):
        raise _nobody(url, "the answer is no status")
    return status


def describe(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return sections as rows of dotted name and value in words; what is empty is left out."""
    rows = [("state", word(status.get("state")))]
    for section, values in status.items():
        if isinstance(values, Mapping):
            rows += [(f"{section}.{name}", word(each, name=name)) for name, each in values.items()]
    return [(name, text) for name, text in rows if text]


def _nobody(url: str, reason: object) -> UnavailableError:
    return UnavailableError(
        f"no daemon answers at {url}: {reason}; is it running, and is this its endpoints.port?"
    )
