"""How fast records arrive and are learned, and what follows from it: warnings, and fewer epochs.

Intake tells what arrives, learning what it has learned; both ask, so there is a lock. Nothing here
decides weights by itself: the epochs chosen stand in the plan.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping

from teacherd.consumers.record import Partition
from teacherd.consumers.source import Lag, Retention
from teacherd.daemon.ages import lag_seconds
from teacherd.daemon.entries import Plan
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.rank_observation import whole
from teacherd.daemon.status_board import StatusBoard

_WINDOW_SECONDS = 120.0
"""Arrivals are averaged over this: longer than the pause between a producer's batches."""
_NEWEST_SHARE = 0.3
"""Weight of the newest task in the cost of learning."""
_USED_SHARE = 0.9
"""Of the time that arrivals leave for a task: the rest lets what waits grow fewer."""

Ends = Mapping[Partition, int]


class Load:
    """Arrival rate, cost of learning, and the epochs that the next plan can afford.

    Args:
        now: Wall clock, seconds since the epoch.
        monotonic: Seconds; the rates are by it.
        elsewhere: Position and lag of partitions that other ranks read.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        board: StatusBoard,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        elsewhere: Callable[[], Mapping[Partition, tuple[int, int]]] = dict,
    ) -> None:
        self._elsewhere = elsewhere
        self._metrics = metrics
        self._board = board
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, Ends]] = deque()
        self._waiting_unread = 0
        self._epoch_seconds: float | None = None
        """Of one record in one epoch."""
        self._epochs = 0
        metrics.learning_headroom.set(math.inf)
        metrics.retention_margin.set(math.inf)

    def observe(
        self,
        lags: Mapping[Partition, Lag],
        positions: Ends,
        *,
        retention: Retention,
        mean_record_bytes: float,
    ) -> None:
        """Take in what has arrived so far, once in a while; export what follows from it."""
        elsewhere = self._elsewhere()
        ends = {each: positions[each] + lag.records for each, lag in lags.items()}
        ends |= {each: position + lag for each, (position, lag) in elsewhere.items()}
        with self._lock:
            moment = self._monotonic()
            self._samples.append((moment, ends))
            while self._samples[0][0] < moment - _WINDOW_SECONDS:
                self._samples.popleft()
            self._waiting_unread = sum(lag.records for lag in lags.values())
            self._waiting_unread += sum(lag for _, lag in elsewhere.values())
            arriving = self._arriving()
            facts = {
                "arriving_records_per_second": sum(arriving.values()),
                "learning_records_per_second": self._learning(),
                "headroom_ratio": self._headroom(),
                "retention_margin_seconds": self._margin(arriving, retention, mean_record_bytes),
                "epochs": self._epochs or None,
            }
        self._metrics.learning_headroom.set(_or_infinite(facts["headroom_ratio"]))
        self._metrics.retention_margin.set(_or_infinite(facts["retention_margin_seconds"]))
        self._board.update("load", **facts)

    def learned(self, plan: Plan, seconds: float) -> None:
        """Take in what a whole task has cost, from its plan to its durable outcome."""
        num_records = sum(closed.count for closed in plan.ranges)
        cost = seconds / (num_records * plan.epochs)
        with self._lock:
            before = cost if self._epoch_seconds is None else self._epoch_seconds
            self._epoch_seconds = _NEWEST_SHARE * cost + (1 - _NEWEST_SHARE) * before

    def choose_epochs(
        self, usual: int, floor: int | None, *, is_largest: bool, num_records: int, waiting: int
    ) -> int:
        """Return how many epochs the next plan has: fewer once growing did not help.

        Args:
            usual: As configured.
            floor: At least so many; None never takes fewer.
            is_largest: Whether the task cannot be any larger.
            num_records: Records of the task.
            waiting: Records that wait in the buffer, without the task's own.
        """
        with self._lock:
            is_behind = is_largest and waiting + self._waiting_unread >= num_records
            arriving = sum(self._arriving().values())
            self._epochs = usual
            if floor is not None and is_behind and self._epoch_seconds and arriving:
                affordable = int(_USED_SHARE / (self._epoch_seconds * arriving))
                self._epochs = max(floor, min(usual, affordable))
            self._metrics.task_epochs.set(self._epochs)
            return self._epochs

    def _arriving(self) -> dict[Partition, float]:
        """Return records a second by partition; of one that came later, nothing before that."""
        if len(self._samples) <= 1:
            return {}
        (then, before), (moment, ends) = self._samples[0], self._samples[-1]
        seconds = max(moment - then, 1e-9)
        return {each: max(0, end - before.get(each, end)) / seconds for each, end in ends.items()}

    def _learning(self) -> float | None:
        """Return how many records a second are learned while learning is busy, as it now does."""
        if self._epoch_seconds is None or not self._epochs:
            return None
        return 1 / max(self._epoch_seconds * self._epochs, 1e-9)

    def _headroom(self) -> float | None:
        learning, arriving = self._learning(), sum(self._arriving().values())
        return learning / arriving if learning is not None and arriving else None

    def _margin(
        self, arriving: Mapping[Partition, float], retention: Retention, mean_bytes: float
    ) -> float | None:
        """Return for how long the oldest record that waits is safe; None where it always is."""
        kept = [] if retention.seconds is None else [retention.seconds]
        fastest = max(arriving.values(), default=0.0) * mean_bytes
        if retention.num_bytes is not None and fastest:
            kept.append(retention.num_bytes / fastest)
        if not kept:
            return None
        return min(kept) - lag_seconds(whole(self._board.snapshot()), self._now())


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value
