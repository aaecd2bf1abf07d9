"""Noticing a newer version below a root, and what is wrong with one only once."""

import os
from collections.abc import Callable
from pathlib import Path

from teacherd.models.artifact import MANIFEST, SIGNATURE, WEIGHTS, ArtifactError
from teacherd.models.current_pointer import CURRENT, read_current
from teacherd.models.version_loading import ServedVersion, VersionLoader

_LONGEST_RETRY_SECONDS = 300.0
_TRANSIENT_REASONS = {"unreadable", "internal"}
"""These may pass without any file changing; everything else stays as it is until one does."""

_FileStamp = tuple[int, int, int, int] | None


class VersionWatch:
    """Says when `current` is worth a look, and looks.

    Not thread-safe: one caller at a time.
    """

    def __init__(
        self,
        root: Path,
        loader: VersionLoader,
        *,
        poll_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._root = root
        self._loader = loader
        self._poll_seconds = poll_seconds
        self._monotonic = monotonic
        self._seen: dict[Path, _FileStamp] = {}
        self._retry_at = float("-inf")
        self._retry_seconds = poll_seconds
        self._seconds_before = poll_seconds
        """`_retry_seconds` before the last look."""

    def is_due(self) -> bool:
        """Tell whether a file changed since the last look, or what failed may work by now.

        Opens one file while all is well, four after a refusal.
        """
        has_changed = any(_stamp(path) != stamp for path, stamp in self._seen.items())
        return has_changed or self._monotonic() >= self._retry_at

    def look(
        self, served: ServedVersion | None, *, likeness: ServedVersion | None
    ) -> ServedVersion | None:
        """Return the current version, verified and probed; None if it is the served one.

        Args:
            served: What a newer version must be newer than.
            likeness: A network that is copied rather than built anew, where it is of the kind.

        Raises:
            ArtifactError: It must not be served. Not due again until a file changes, except
                where the reason may pass by itself.
        """
        # What is seen is noted before it is read, so that a change in between is not missed.
        current = self._root / CURRENT
        self._seen = {current: _stamp(current)}
        self._retry_at = float("inf")
        try:
            candidate = self._load(served, likeness)
        except ArtifactError as error:
            self._plan_retry(error.reason)
            raise
        except Exception:
            self._plan_retry("internal")
            raise
        self._seen = {current: self._seen[current]}
        self._seconds_before = self._retry_seconds
        self._retry_seconds = self._poll_seconds
        return candidate

    def put_off(self) -> None:
        """Look again after a while: what the last look gave could not take its place for now."""
        self._retry_seconds = self._seconds_before
        self._plan_retry("internal")

    def _load(
        self, served: ServedVersion | None, likeness: ServedVersion | None
    ) -> ServedVersion | None:
        pointer = read_current(self._root)
        folder = self._root / pointer.folder
        files = (folder / MANIFEST, folder / SIGNATURE, folder / WEIGHTS)
        self._seen |= {path: _stamp(path) for path in files}
        return self._loader.load(pointer, served, likeness=likeness)

    def _plan_retry(self, reason: str) -> None:
        if reason in _TRANSIENT_REASONS:
            self._retry_at = self._monotonic() + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)


def _stamp(path: Path) -> _FileStamp:
    """Return what changes when a file is replaced or written; None where there is none."""
    try:
        # Opened, because a network file system asks its server for news only then.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return _stamp_of_name(path)
    try:
        return _four(os.fstat(descriptor))
    except OSError:  # a stale handle
        return None
    finally:
        os.close(descriptor)


def _stamp_of_name(path: Path) -> _FileStamp:
    try:
        return _four(path.lstat())
    except OSError:
        return None


def _four(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
