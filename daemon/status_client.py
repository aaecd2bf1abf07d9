"""Asks a running daemon for its status, and words the answer for a person."""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.wording import word

_TIMEOUT_SECONDS = 5.0


def fetch_status(url: str, *, certificate_file: str | None = None) -> dict[str, Any]:
    """Return what /status answers.

    Args:
        url: Of the daemon's endpoints.
        certificate_file: The daemon's own certificate, which is then trusted under any name.

    Raises:
        UsageError: It is no address.
        UnavailableError: No daemon answers there.
    """
    return _fetch(url, "status", certificate_file)


def fetch_history(url: str, *, certificate_file: str | None = None) -> dict[str, Any]:
    """Return what /history answers; arguments and errors as for `fetch_status`."""
    return _fetch(url, "history", certificate_file)


def _fetch(url: str, name: str, certificate_file: str | None) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url: {url!r}: must begin with http:// or https://")
    try:
        with urllib.request.urlopen(  # noqa: S310 (scheme checked above)
            f"{url.rstrip('/')}/{name}",
            timeout=_TIMEOUT_SECONDS,
            context=_trust(certificate_file) if url.startswith("https://") else None,
        ) as got:
            answer = json.load(got)
    except urllib.error.HTTPError as error:
        with error:
            raise _nobody(url, error.reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _nobody(url, getattr(error, "reason", error)) from error
    if not isinstance(answer, dict):
        raise _nobody(url, f"the answer is no {name}")
    return answer


def describe(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return rows of name and value in words: what is wrong, then the sections by dotted name.

    What is empty is left out.
    """
    rows = [("state", word(status.get("state"))), ("in short", word(status.get("headline")))]
    rows += [
        (each["level"], word(f"{each['says']} {each['remedy']}".strip()))
        for each in status.get("problems", ())
    ]
    for section, values in status.items():
        if isinstance(values, Mapping):
            rows += [(f"{section}.{name}", word(each, name=name)) for name, each in values.items()]
    return [(name, text) for name, text in rows if text]


def _trust(certificate_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate_file)
    # The daemon is asked on this machine, by an address that its certificate need not name.
    context.check_hostname = certificate_file is None
    return context


def _nobody(url: str, reason: object) -> UnavailableError:
    return UnavailableError(
        f"no daemon answers at {url}: {reason}; is it running, and is this its endpoints.port?"
    )
