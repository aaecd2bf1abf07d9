"""The thread that keeps one mirror up to date, beside the learning thread and never in its way."""

import threading
from collections.abc import Callable

import structlog

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.mirror import Mirror, MirrorError
from teacherd.daemon.status_board import StatusBoard

_TICK_SECONDS = 0.2
_FIRST_BACKOFF_SECONDS = 1.0
_LOG_EVERY_SECONDS = 30.0


class Mirroring:
    """Converges after each change and each start; what failed is tried again until it worked.

    There is no list of things to do that could be lost: each attempt compares mirror and root.

    Args:
        max_backoff_seconds: Longest pause between attempts while it fails.
        monotonic: Seconds.
        now: Wall clock, seconds since the epoch.
        stop: Set when the process is to end; what is new then gets one more attempt.
    """

    def __init__(
        self,
        name: str,
        mirror: Mirror,
        *,
        max_backoff_seconds: float,
        metrics: Metrics,
        board: StatusBoard,
        monotonic: Callable[[], float],
        now: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self.name = name
        self._mirror = mirror
        self._max_backoff_seconds = max_backoff_seconds
        self._metrics = metrics
        self._board = board
        self._monotonic = monotonic
        self._now = now
        self._stop = stop
        self._has_news = threading.Event()
        self._has_news.set()
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS
        self._retry_at = float("-inf")
        self._logged_at = float("-inf")
        self._num_failed = 0
        self._log = structlog.get_logger().bind(mirror=name)

    def notify(self) -> None:
        """Say that the root has changed; called by the learning thread, returns at once."""
        self._has_news.set()

    def run(self) -> None:
        """Converge until told to stop."""
        while not self._stop.wait(_TICK_SECONDS):
            self.tick()
        if self._has_news.is_set():
            self._attempt()

    def tick(self) -> None:
        """Make an attempt if there is news, unless one failed too short a time ago."""
        if self._has_news.is_set() and self._monotonic() >= self._retry_at:
            self._attempt()

    def _attempt(self) -> None:
        # Taken before looking, so that a change in between is not missed.
        self._has_news.clear()
        try:
            num_written = self._mirror.converge()
            version = self._mirror.served
        except Exception as error:  # noqa: BLE001 - each store's library raises its own
            self._has_news.set()
            self._note_failure(error)
            return
        self._note_success(num_written, version)

    def _note_failure(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, MirrorError) else "unreachable"
        self._metrics.mirror_failures.labels(self.name, reason).inc()
        self._board.update("mirrors", **{self.name: {"error": str(error)}})
        self._num_failed += 1
        self._retry_at = self._monotonic() + self._backoff_seconds
        if self._monotonic() - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = self._monotonic()
            self._log.warning(
                "mirror_failed",
                reason=reason,
                error=repr(error),
                attempts=self._num_failed,
                retry_seconds=self._backoff_seconds,
            )
        self._backoff_seconds = min(2 * self._backoff_seconds, self._max_backoff_seconds)

    def _note_success(self, num_written: int, version: int | None) -> None:
        self._metrics.mirror_success.labels(self.name).set(self._now())
        if version is not None:
            self._metrics.mirror_version.labels(self.name).set(version)
        self._board.update("mirrors", **{self.name: {"version": version}})
        if num_written or self._num_failed:
            self._log.info(
                "mirror_updated",
                version=version,
                versions_written=num_written,
                failed_attempts=self._num_failed,
            )
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS
        self._retry_at = self._logged_at = float("-inf")
        self._num_failed = 0
