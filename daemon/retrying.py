"""Tasks to be tried again on request: waits its turn, has the records read once more."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import structlog

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_rebuilding import RangeMismatchError
from teacherd.daemon.deferred_offsets import DeferredLostError
from teacherd.daemon.durable import write_file
from teacherd.daemon.entries import Plan, Retry
from teacherd.daemon.errors import UsageError
from teacherd.daemon.holdout_split import split
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.quarantine import Quarantine
from teacherd.daemon.range_words import planned_range
from teacherd.daemon.read_requests import ReadRequests
from teacherd.daemon.standing import where_held_out

Rebuild = Callable[[Plan, Iterator[RecordBatch]], BufferedTask]


class Retrying:
    """A durable queue of task numbers, of the learning thread's.

    Args:
        path: File that holds it, made with the first request.
        lineage: As it is now: requests that it has seen carried out are none.
        requests: Reads records, in the thread that owns the source.
        quarantine: May have those that the stream has deleted.
        rebuild: Makes the planned task of them.
    """

    def __init__(
        self,
        path: Path,
        lineage: Lineage,
        *,
        requests: ReadRequests,
        quarantine: Quarantine,
        rebuild: Rebuild,
    ) -> None:
        self._path = path
        self._quarantine = quarantine
        self._requests = requests
        self._rebuild = rebuild
        self._waiting = _waiting(path, lineage)
        self._readings: dict[int, Future[BufferedTask]] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether there is a task to be tried again."""
        return bool(self._waiting)

    def add(self, number: int, lineage: Lineage) -> None:
        """Have a task tried again when its turn comes, also after a restart.

        Raises:
            UsageError: It was not set aside.
            StateError: The disk refused.
        """
        require_set_aside(number, lineage)
        if number not in self._waiting:
            self._waiting[number] = lineage.set_aside[number].attempt
            self._save()

    def poll(self, lineage: Lineage, timeout_seconds: float) -> BufferedTask | None:
        """Return the next task's instances once they are read, and None until then.

        Raises:
            StateError: The disk refused.
        """
        number = self._next(lineage)
        if number not in lineage.set_aside:
            self._give_up(number, "set_aside.keep_tasks newer tasks were set aside since")
            return None
        plan = lineage.set_aside[number].plan
        if number not in self._readings:
            ranges = [planned_range(closed).offsets for closed in plan.ranges]
            asked = self._requests.ask(ranges, lambda batches: self._make(plan, batches))
            self._readings[number] = asked
        try:
            with contextlib.suppress(TimeoutError):
                task = self._readings[number].result(timeout=timeout_seconds)
                del self._readings[number]
                return task
        except (RangeMismatchError, DeferredLostError) as error:
            self._give_up(number, str(error))
        return None

    def lets_others_pass(self, lineage: Lineage) -> bool:
        """Whether tasks may be cut although one waits: its records cannot be read for now.

        Nothing passes one that a failed probation put off: it is to be learned from where that
        went back to.
        """
        is_due = lineage.due_retry in self._waiting
        return bool(self._waiting) and not is_due and self._requests.is_source_away

    def hold(self, needed_from: Mapping[Partition, int], lineage: Lineage) -> dict[Partition, int]:
        """Return from where on records are needed, with those of tasks to be tried again."""
        held = dict(needed_from)
        waiting = [
            lineage.set_aside[each].plan for each in self._waiting if each in lineage.set_aside
        ]
        unfinished = [lineage.unfinished] if lineage.unfinished is not None else []
        for closed in [each for plan in waiting + unfinished for each in plan.ranges]:
            partition = Partition(closed.topic, closed.partition)
            if partition in held:
                held[partition] = min(held[partition], closed.start)
        return held

    def take(self, lineage: Lineage, learning_rate: float, task: BufferedTask) -> Retry:
        """Return the entry for the task that was read, which waits no more.

        The file still has it: should the entry not become durable, it waits again after a restart,
        and else its attempt says that it is done.
        """
        number = self._next(lineage)
        del self._waiting[number]
        return _retry_of(number, lineage, learning_rate, task)

    def _next(self, lineage: Lineage) -> int:
        """Return whose turn it is: the one that a failed probation put off, else by request."""
        due = lineage.due_retry
        return due if due is not None and due in self._waiting else next(iter(self._waiting))

    def _make(self, plan: Plan, batches: Iterator[RecordBatch]) -> BufferedTask:
        return self._quarantine.make_good(
            plan.task, batches, lambda records: self._rebuild(plan, records)
        )

    def _give_up(self, number: int, error: str) -> None:
        structlog.get_logger().error("retry_impossible", task=number, error=error)
        self._readings.pop(number, None)
        del self._waiting[number]
        self._save()

    def _save(self) -> None:
        _write(self._path, self._waiting)


def ask_next_start(path: Path, number: int, lineage: Lineage) -> None:
    """Have a task tried again by the next start, where no daemon runs.

    It finds out whether the records are still there, as a running one does: an entry now would have
    to be followed.

    Args:
        path: File that holds what waits.
        number: The task's.
        lineage: As it is now.

    Raises:
        UsageError: It was not set aside.
        StateError: The disk refused.
    """
    require_set_aside(number, lineage)
    waiting = _waiting(path, lineage)
    _write(path, waiting | {number: lineage.set_aside[number].attempt})


def _retry_of(number: int, lineage: Lineage, learning_rate: float, task: BufferedTask) -> Retry:
    """Return the entry with which a task that was set aside is tried again from the head of now.

    A task that a failed probation kept from being learned is learned as it was planned; one that
    somebody asks for goes by the settings in force, which may have been changed for its sake.
    """
    aside = lineage.set_aside[number]
    is_due = number == lineage.due_retry
    return Retry(
        task=number,
        attempt=aside.attempt + 1,
        head=lineage.head,
        learning_rate=aside.plan.learning_rate if is_due else learning_rate,
        cause="probation" if is_due else "request",
        reason=aside.result,
        new_classes=_lacking(aside.plan, lineage, task),
    )


def _lacking(plan: Plan, lineage: Lineage, task: BufferedTask) -> tuple[str, ...]:
    """Return the classes that a task would learn and the head lacks; it may be another head.

    What the plan names may all be held out: that is nothing to learn a class from.
    """
    lacking = [name for name in plan.named if name not in lineage.classes]
    if not lacking:
        return ()
    learned, _ = split(task, where_held_out(plan), lineage.first_classes)
    present = {learned.classes[place] for place in np.unique(learned.labels).tolist()}
    return tuple(name for name in lacking if name in present)


def require_set_aside(number: int, lineage: Lineage) -> None:
    """Refuse a task that cannot be tried again.

    Raises:
        UsageError: It was not set aside.
    """
    if number not in lineage.set_aside:
        known = ", ".join(map(str, sorted(lineage.set_aside))) or "none"
        raise UsageError(f"task {number} was not set aside; held, quarantined or lost are: {known}")


def _waiting(path: Path, lineage: Lineage) -> dict[int, int]:
    """Return the attempt that each task wants to follow, in the order of the requests."""
    return {
        number: attempt
        for number, attempt in _read(path)
        if number in lineage.set_aside and lineage.set_aside[number].attempt == attempt
    }


def _write(path: Path, waiting: Mapping[int, int]) -> None:
    content = {"waiting": [list(each) for each in waiting.items()]}
    write_file(path, (json.dumps(content) + "\n").encode())


def _read(path: Path) -> list[tuple[int, int]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [(int(number), int(attempt)) for number, attempt in content["waiting"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        structlog.get_logger().warning("retries_unreadable", path=str(path), error=repr(error))
        return []
