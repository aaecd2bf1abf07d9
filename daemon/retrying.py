"""Tasks to be tried again on request: waits its turn, has the records read once more."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import structlog

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_rebuilding import RangeMismatchError
from teacherd.daemon.entries import Plan, Retry
from teacherd.daemon.errors import UsageError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.read_requests import ReadRequests
from teacherd.daemon.recovery import planned_range

Rebuild = Callable[[Plan, Iterator[RecordBatch]], BufferedTask]


class Retrying:
    """A queue of task numbers, of the learning thread's; a restart forgets it.

    Args:
        requests: Reads records, in the thread that owns the source.
        rebuild: Makes the planned task of them.
    """

    def __init__(self, requests: ReadRequests, rebuild: Rebuild) -> None:
        self._requests = requests
        self._rebuild = rebuild
        self._waiting: deque[int] = deque()
        self._reading: Future[BufferedTask] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether there is a task to be tried again."""
        return bool(self._waiting)

    def add(self, number: int, lineage: Lineage) -> None:
        """Have a task tried again when its turn comes.

        Raises:
            UsageError: It was not set aside.
        """
        if number not in lineage.set_aside:
            known = ", ".join(map(str, sorted(lineage.set_aside))) or "none"
            raise UsageError(
                f"task {number} was not set aside; held, quarantined or lost are: {known}"
            )
        if number not in self._waiting:
            self._waiting.append(number)

    def poll(self, lineage: Lineage, timeout_seconds: float) -> BufferedTask | None:
        """Return the next task's instances once they are read, and None until then.

        The task is then no longer in the queue; it is the first of `lineage.set_aside`'s asked for.
        """
        plan = lineage.set_aside[self._waiting[0]].plan
        if self._reading is None:
            ranges = [planned_range(closed).offsets for closed in plan.ranges]
            self._reading = self._requests.ask(ranges, lambda batches: self._rebuild(plan, batches))
        try:
            with contextlib.suppress(TimeoutError):
                task = self._reading.result(timeout=timeout_seconds)
                self._reading = None
                return task
        except RangeMismatchError as error:
            structlog.get_logger().error("retry_impossible", task=plan.task, error=str(error))
            self._reading = None
            self._waiting.popleft()
        return None

    def take(self, lineage: Lineage, learning_rate: float) -> Retry:
        """Return the entry for the task that was read, which waits no more."""
        number = self._waiting.popleft()
        aside = lineage.set_aside[number]
        return Retry(
            task=number,
            attempt=aside.attempt + 1,
            head=lineage.head,
            learning_rate=learning_rate,
            cause="request",
            reason=aside.result,
        )
