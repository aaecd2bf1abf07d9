"""The thread that tells one receiver of decisions, beside the learning and never in its way."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable

import structlog

from teacherd.daemon.delivery import DeliveryError, Sender
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.notice import Notice
from teacherd.daemon.notifications import NotificationsConfig
from teacherd.daemon.notified_place import NotifiedPlace
from teacherd.daemon.status_board import StatusBoard

_TICK_SECONDS = 0.2
_FIRST_BACKOFF_SECONDS = 1.0
_GRACE_SECONDS = 5.0
_LOG_EVERY_SECONDS = 30.0


class Notifying:
    """Tells events one after the other, each until it arrives or is given up.

    Args:
        name: webhook or command.
        place: How far this receiver has been told; what is up to there is not told again.
        monotonic: Seconds.
    """

    def __init__(
        self,
        name: str,
        sender: Sender,
        *,
        config: NotificationsConfig,
        place: NotifiedPlace,
        metrics: Metrics,
        board: StatusBoard,
        monotonic: Callable[[], float],
    ) -> None:
        self.name = name
        self._sender = sender
        self._config = config
        self._place = place
        self._results = metrics.notifications
        self._board = board
        self._monotonic = monotonic
        self._queue: queue.Queue[Notice] = queue.Queue(config.max_waiting)
        self._attempt: _Attempt | None = None
        self._finish = threading.Event()
        self._ends_at = float("inf")
        self._logged_at = float("-inf")
        self._log = structlog.get_logger().bind(receiver=name)

    def wants(self, notice: Notice) -> bool:
        """Tell whether this receiver is to be told of it, and was not told before."""
        return notice.sequence > self._place.last and notice.event in self._config.events

    def offer(self, notice: Notice) -> None:
        """Queue an event, in the learning thread; returns at once, and never raises."""
        if self._queue.full():
            with contextlib.suppress(queue.Empty):
                self._drop(self._queue.get_nowait())
        self._queue.put_nowait(notice)

    def finish(self) -> None:
        """Let the thread end: what waits is tried once more, for a few seconds in all.

        What does not arrive then is told by the next process.
        """
        self._ends_at = self._monotonic() + _GRACE_SECONDS
        self._finish.set()

    def run(self) -> None:
        """Tell until told to finish."""
        while self.tick():
            pass

    def tick(self) -> bool:
        """Tell the next event, or again the one that did not arrive; return whether to go on."""
        attempt = self._attempt = self._attempt or self._take()
        if attempt is None:
            return not self._finish.is_set()
        is_finishing = self._finish.is_set()
        if self._monotonic() < attempt.at and not is_finishing:
            self._finish.wait(_TICK_SECONDS)
            return True
        if self._send(attempt):
            self._attempt = None
            return True
        return not is_finishing

    def _take(self) -> "_Attempt | None":
        try:
            notice = self._queue.get(timeout=0 if self._finish.is_set() else _TICK_SECONDS)
        except queue.Empty:
            return None
        return _Attempt(notice, now=self._monotonic())

    def _send(self, attempt: "_Attempt") -> bool:
        """Try once; return whether the event is done with."""
        over_at = min(self._monotonic() + self._config.timeout_seconds, self._ends_at)
        try:
            self._sender.send(attempt.body, lambda: self._monotonic() >= over_at)
        except DeliveryError as error:
            return self._note_failure(attempt, str(error))
        self._results.labels(self.name, "delivered").inc()
        self._log.info(
            "notification_delivered",
            id=attempt.notice.id,
            event_kind=attempt.notice.event,
            attempts=attempt.number,
        )
        self._logged_at = float("-inf")
        self._done(attempt, error=None)
        return True

    def _note_failure(self, attempt: "_Attempt", error: str) -> bool:
        now = self._monotonic()
        is_given_up = now - attempt.since >= self._config.give_up_seconds
        self._results.labels(self.name, "failed" if is_given_up else "retried").inc()
        retry_seconds = attempt.postpone(now, most=self._config.max_backoff_seconds)
        if is_given_up or now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            self._log.warning(
                "notification_failed",
                id=attempt.notice.id,
                event_kind=attempt.notice.event,
                error=error,
                attempts=attempt.number - 1,
                retry_seconds=None if is_given_up else retry_seconds,
            )
        if is_given_up:
            self._done(attempt, error=error)
        else:
            self._show(error, in_hand=1)
        return is_given_up

    def _done(self, attempt: "_Attempt", *, error: str | None) -> None:
        self._place.move(attempt.notice.sequence)
        self._show(error, in_hand=0)

    def _show(self, error: str | None, *, in_hand: int) -> None:
        waiting = self._queue.qsize() + in_hand
        self._board.update("notifications", **{self.name: {"waiting": waiting, "error": error}})

    def _drop(self, notice: Notice) -> None:
        self._results.labels(self.name, "dropped").inc()
        self._log.warning("notification_dropped", id=notice.id, event_kind=notice.event)


class _Attempt:
    """An event in hand: when it is tried next."""

    def __init__(self, notice: Notice, *, now: float) -> None:
        self.notice = notice
        self.body = json.dumps(notice.content).encode()
        self.since = self.at = now
        self.number = 1
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def postpone(self, now: float, *, most: float) -> float:
        """Set the time of the next try; return in how many seconds that is."""
        seconds = min(self._backoff_seconds, most)
        self.at = now + seconds
        self.number += 1
        self._backoff_seconds = 2 * seconds
        return seconds
