"""A root on another machine: asked at somewhat irregular moments, more seldom while it fails."""

import hashlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from teacherd.models.artifact import ArtifactError
from teacherd.models.transport import Transport
from teacherd.models.version_fetching import VersionFetcher
from teacherd.models.version_loading import LoadingRules

_LONGEST_RETRY_SECONDS = 60.0
_JITTER = 0.25
"""Share of the interval by which it varies, so that many loaders do not ask at once."""
_DAMAGE = {"missing", "size", "checksum", "manifest", "pointer"}
"""What the cache cannot have from the other side, where all of this was checked."""


def is_remote(root: Path | str) -> bool:
    """Tell whether a root is a URL rather than a directory."""
    return isinstance(root, str) and "://" in root


def open_remote(
    url: str,
    *,
    cache: Path | None,
    options: Mapping[str, Any],
    rules: LoadingRules,
    poll_seconds: float,
    monotonic: Callable[[], float],
    should_stop: Callable[[], bool],
) -> "RemoteRoot":
    """Return the root that a URL names; asks nothing yet.

    Raises:
        ValueError: The URL or its options cannot be used.
    """
    directory = cache or _default_cache(url)
    fetcher = VersionFetcher(
        _open_transport(url, options),
        directory,
        trusted=rules.trusted,
        largest_bytes=rules.largest_bytes,
        should_stop=should_stop,
    )
    return RemoteRoot(fetcher, directory, poll_seconds=poll_seconds, monotonic=monotonic)


class RemoteRoot:
    """Keeps the cache up to date.

    Args:
        jitter: Gives numbers from 0 to 1.
    """

    def __init__(
        self,
        fetcher: VersionFetcher,
        cache: Path,
        *,
        poll_seconds: float,
        monotonic: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.cache = cache
        self._fetcher = fetcher
        self._poll_seconds = poll_seconds
        self._monotonic = monotonic
        self._jitter = jitter
        self._retry_at = float("-inf")
        self._retry_seconds = poll_seconds

    def update(self) -> None:
        """Fetch the served version, unless an attempt failed too short a time ago.

        Raises:
            ArtifactError: It could not be fetched, or must not be.
        """
        if self._monotonic() < self._retry_at:
            return
        try:
            self._fetcher.fetch()
        except ArtifactError:
            self._retry_at = self._monotonic() + self._vary(self._retry_seconds)
            self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)
            raise
        self._retry_seconds = self._poll_seconds
        self._retry_at = float("-inf")

    def note_refusal(self, error: ArtifactError) -> None:
        """Throw a fetched version away that was refused because it is damaged."""
        if error.reason in _DAMAGE:
            self._fetcher.distrust(error.path)

    def next_wait(self) -> float:
        """Return for how many seconds to leave the other side alone."""
        return self._vary(self._poll_seconds)

    def _vary(self, seconds: float) -> float:
        return seconds * (1 + _JITTER * (2 * self._jitter() - 1))


def _open_transport(url: str, options: Mapping[str, Any]) -> Transport:
    if url.startswith(("http://", "https://")):
        # HTTP and object stores are imported by those who use them.
        from teacherd.models.http_transport import HttpTransport  # noqa: PLC0415

        try:
            return HttpTransport(url, **options)
        except (TypeError, OSError) as error:
            raise ValueError(f"options: {sorted(options)}: cannot be used: {error}") from error
    from teacherd.models.object_transport import ObjectTransport  # noqa: PLC0415 - as above

    return ObjectTransport(url, options=options)


def _default_cache(url: str) -> Path:
    """Return a directory of its own for each URL, named by its digest: a URL may hold secrets."""
    return Path.home() / ".cache" / "teacherd" / hashlib.sha256(url.encode()).hexdigest()[:16]
