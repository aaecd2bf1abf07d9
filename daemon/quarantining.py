"""Puts the task in progress into quarantine: its records are read once more and written down.

The source may be away for a while, so that the learning thread asks, and asks again.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from teacherd.consumers.record import OffsetRange
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.entries import Outcome, Plan
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.quarantine import Quarantine
from teacherd.daemon.range_words import planned_range

ReadRecords = Callable[
    [Sequence[OffsetRange], Callable[[Iterator[RecordBatch]], Path]], Future[Path]
]


@dataclass(frozen=True, slots=True)
class _InProgress:
    """What is being written down."""

    task: int
    reason: str
    kept: Future[Path]


class Quarantining:
    """Of the learning thread, one task at a time.

    Args:
        quarantine: Where the records go.
        read_records: Has records read once more, by the source's own thread.
    """

    def __init__(self, quarantine: Quarantine, read_records: ReadRecords) -> None:
        self._quarantine = quarantine
        self._read_records = read_records
        self._running: _InProgress | None = None
        self._abandoned: list[Future[Path]] = []

    @property
    def is_running(self) -> bool:
        """Whether a task's records are being written down; no step of it is made any more."""
        return self._running is not None

    def begin(self, plan: Plan, reason: str) -> None:
        """Have a task's records read and kept."""
        ranges = [planned_range(closed).offsets for closed in plan.ranges]
        keep = functools.partial(self._quarantine.keep, plan, reason)
        self._running = _InProgress(plan.task, reason, self._read_records(ranges, keep))

    def poll(self, timeout_seconds: float) -> Outcome | None:
        """Return the task's outcome once its records are durable, and None until then.

        Raises:
            StateError: The disk refused them.
        """
        running = self._running
        if running is None:
            return None
        with contextlib.suppress(TimeoutError):
            running.kept.result(timeout=timeout_seconds)
            self._running = None
            return Outcome(task=running.task, result="quarantined", reasons=(running.reason,))
        return None

    def abandon(self) -> tuple[str, ...]:
        """Wait no longer for the task in progress; return why it was to be in quarantine, if any.

        Its records may still be written down, and stay while the task is set aside.
        """
        running, self._running = self._running, None
        if running is None:
            return ()
        self._abandoned.append(running.kept)
        return (running.reason,)

    def mend(self, lineage: Lineage) -> None:
        """Let go of records whose task is no longer set aside.

        Raises:
            StateError: The disk refused.
        """
        self._abandoned = [each for each in self._abandoned if not each.done()]
        # Else a draft could go while the source's thread is writing it.
        if not self._abandoned:
            self._quarantine.mend(lineage)
