"""The buffer between intake and learning: fills tasks, says when to cut, hands them over."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.buffer_standing import BufferStanding
from teacherd.consumers.buffered_task import BufferedTask, Cause
from teacherd.consumers.decoded_batch import DecodedBatch
from teacherd.consumers.filling_task import FillingTask, TaskLimits
from teacherd.consumers.instance import Array
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskBufferConfig:
    """When tasks are cut, and how much may wait."""

    instances: int = 2000
    """Instances of a task cut by count: enough that an epoch is many steps."""
    max_instances: int | None = None
    """A task grows to so many while records arrive faster than they are learned; null never grows,
    so that a daemon that was killed makes the same tasks again."""
    max_age_seconds: float = 600.0
    """A task is cut when its first record has waited for so long, so that a slow stream is learned
    too."""
    min_instances: int = 100
    """A task cut by age waits for so many: a few instances would be learned by heart."""
    max_records: int = 100_000
    """Records that may wait, rejected ones included; a task is cut at the latest with so many."""
    buffer_bytes: int = 512 << 20
    """Memory that decoded records may take while they wait; the task being learned comes on top.
    A task is cut at the latest when it takes this much; 512 MiB are 3,500 images of 224 x 224."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name in ("instances", "min_instances", "buffer_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}: must be above 0; raise it")
        if self.max_age_seconds <= 0:
            raise ValueError(f"max_age_seconds: {self.max_age_seconds}: must be above 0; take 600")
        if self.max_instances is not None and self.max_instances < self.instances:
            raise ValueError(
                f"max_instances: {self.max_instances}: must be at least instances, "
                f"{self.instances}; raise it, or take null for tasks that never grow"
            )
        if self.max_records < self.instances:
            raise ValueError(
                f"max_records: {self.max_records}: must be at least instances, {self.instances}; "
                "raise it, else no task can be cut by count"
            )
        if self.max_records < self.largest_instances:
            raise ValueError(
                f"max_records: {self.max_records}: must be at least max_instances, "
                f"{self.max_instances}; raise it, else no task can grow so large"
            )
        if self.min_instances > self.instances:
            raise ValueError(
                f"min_instances: {self.min_instances}: must not be above instances, "
                f"{self.instances}; lower it"
            )

    @property
    def largest_instances(self) -> int:
        """Return how many instances a task may have."""
        return self.instances if self.max_instances is None else self.max_instances


class LostRange(NamedTuple):
    """Records that are gone, from the partition's place on, and why."""

    offsets: OffsetRange
    reason: str
    topic_id: str | None = None
    """Of the topic that was made anew, where that is why."""


class _Skip(NamedTuple):
    num_tasks_before: int
    """How many tasks are cut before it is noted."""
    lost: LostRange


class TaskBuffer:
    """Holds tasks that fill; intake appends, learning cuts.

    A task ends right after the record that brings it to `instances` (or to the bounds of the
    buffer), however the records were batched: with one partition and no cuts by age, a daemon that
    was killed makes the same tasks again.

    Where tasks may grow, one takes as many instances as wait in complete tasks before it, within
    its bounds: it doubles for as long as learning is behind. Learning need not wait for that: from
    `instances` on it may cut. Where such a task ends depends on the load, so its plan says where.

    Args:
        now: Seconds; decides when a task is old.
    """

    def __init__(self, config: TaskBufferConfig, *, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._tasks: deque[FillingTask] = deque()
        self._places: dict[Partition, int] = {}
        self._positions: dict[Partition, int] = {}
        self._topic_id: str | None = None
        self._elsewhere = (0, 0)
        self._skips: deque[_Skip] = deque()
        self._num_cut = 0
        self._changed = threading.Condition()
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="hashing")

    @property
    def largest_instances(self) -> int:
        """Return how many instances a task may have."""
        return self._config.largest_instances

    @property
    def capacity_records(self) -> int:
        """Return how many records may wait."""
        return self._config.max_records

    @property
    def num_records(self) -> int:
        """Return how many records wait, rejected ones included."""
        with self._changed:
            return self._sum("num_records")

    @property
    def num_instances(self) -> int:
        """Return how many instances wait."""
        with self._changed:
            return self._sum("num_instances")

    @property
    def num_bytes(self) -> int:
        """Return how much memory what waits takes."""
        with self._changed:
            return self._sum("num_bytes")

    @property
    def oldest_age_seconds(self) -> float:
        """Return for how long the first record has waited; 0 if none waits."""
        with self._changed:
            return self._age()

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be appended for now; then there is a task to cut."""
        with self._changed:
            return self._is_full()

    @property
    def can_be_cut(self) -> bool:
        """Whether there is a task to cut, and nothing gone to be noted before."""
        with self._changed:
            return bool(self._tasks) and not self._is_skip_due()

    def standing(self) -> BufferStanding:
        """Return what waits, in numbers that belong together."""
        with self._changed:
            first = self._tasks[0] if self._tasks and not self._is_skip_due() else None
            return BufferStanding(
                instances=first.num_instances if first else 0,
                records=first.num_records if first else 0,
                cause=self._cause(first) if first else None,
                age_seconds=self._age(),
                waiting_records=self._sum("num_records"),
                waiting_instances=self._sum("num_instances"),
                waiting_bytes=self._sum("num_bytes"),
            )

    def start_at(self, positions: Mapping[Partition, int], *, topic_id: str | None = None) -> None:
        """Say where the first ranges begin; else a partition's begins with its first record.

        Args:
            positions: By partition.
            topic_id: What tells the topic from others of its name, if anything does.
        """
        with self._changed:
            assert not self._tasks, "ranges have begun"
            self._places.update(positions)
            self._topic_id = topic_id

    def append(
        self, batch: RecordBatch, decoded: DecodedBatch, positions_after: Mapping[Partition, int]
    ) -> None:
        """Take in what was read next.

        It takes all of it also when that makes it fuller than full.

        Args:
            batch: Next of its partition.
            decoded: What its records are.
            positions_after: The source's positions after these records.
        """
        with self._changed:
            while len(batch):
                task = self._filling_task()
                taken = task.take(batch, decoded, self._places)
                self._places[batch.partition] = batch.offsets[taken - 1] + 1
                batch = batch.part(taken, len(batch))
                decoded = decoded.part(taken, len(decoded))
            self._positions.update(positions_after)
            self._changed.notify_all()

    def skip(self, lost: OffsetRange, reason: str, *, topic_id: str | None = None) -> None:
        """Pass over records that are gone; the task that fills ends before them.

        Args:
            lost: From the position to where reading goes on.
            reason: In words.
            topic_id: Of the topic that was made anew, where that is why.
        """
        with self._changed:
            if self._tasks and self._tasks[-1].cause is None:
                self._tasks[-1].end("gap")
            start = self._places.get(lost.partition, lost.start)
            gone = LostRange(OffsetRange(lost.partition, start, lost.end), reason, topic_id)
            self._topic_id = topic_id or self._topic_id
            self._skips.append(_Skip(self._num_cut + len(self._tasks), gone))
            self._places[lost.partition] = self._positions[lost.partition] = lost.end
            self._changed.notify_all()

    def count_elsewhere(self, records: int, num_bytes: int) -> None:
        """Say what waits in the buffers of others, with which this one shares its bounds."""
        with self._changed:
            self._elsewhere = (records, num_bytes)
            self._changed.notify_all()

    def take_skips(self) -> Sequence[LostRange]:
        """Hand over what is to be noted as gone before the next task is cut."""
        with self._changed:
            due = []
            while self._is_skip_due():
                due.append(self._skips.popleft().lost)
            return due

    def wait_for_room(self, timeout_seconds: float) -> bool:
        """Wait until it is not full; return whether it is not."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_full(), timeout_seconds)

    def wait_for_cut(self, timeout_seconds: float) -> Cause | None:
        """Wait until a task should be cut; return why, or None if none should be yet."""
        with self._changed:
            return self._changed.wait_for(self._due, timeout_seconds)

    @property
    def may_be_cut(self) -> bool:
        """Whether what waits is enough for a task that ends before it is complete."""
        with self._changed:
            return bool(self._tasks) and (
                self._tasks[0].num_instances >= self._config.min_instances
            )

    def peek(self, start: int) -> tuple[Array, npt.NDArray[np.int64], tuple[str, ...]]:
        """Return inputs and labels of the oldest task's instances from the start-th on, as copies.

        They are in the order of arrival, labels and names as in `FillingTask.instances_from`.
        """
        with self._changed:
            if not self._tasks:
                return np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.int64), ()
            return self._tasks[0].instances_from(start)

    def cut(self, cause: Cause) -> BufferedTask:
        """Hand over the oldest task: a complete one as it is, else all that waits.

        Args:
            cause: Why, if the task is not complete; a complete one ended for its own cause.
        """
        with self._changed:
            assert self._tasks, "there is nothing to cut"
            assert not self._is_skip_due(), "what is gone is noted first"
            task = self._tasks.popleft()
            self._num_cut += 1
            ends: Mapping[Partition, int] = {}
            if task.cause is None:
                # All that was read is in this task, or in one before it: gaps at the end as well.
                ends = {
                    partition: max(end, self._positions.get(partition, end))
                    for partition, end in task.ends().items()
                }
                self._places.update(ends)
            self._changed.notify_all()
        return task.build(task.cause or cause, ends)

    def close(self) -> None:
        """Let its thread end."""
        self._hashing.shutdown()

    def _filling_task(self) -> FillingTask:
        if not self._tasks or self._tasks[-1].cause is not None:
            self._tasks.append(
                FillingTask(
                    self._limits(),
                    began_at=self._now(),
                    executor=self._hashing,
                    topic_id=self._topic_id,
                )
            )
        return self._tasks[-1]

    def _limits(self) -> TaskLimits:
        """Return those of a task that begins behind the ones that wait, all of them complete."""
        config = self._config
        most = max(config.instances, min(self._sum("num_instances"), config.largest_instances))
        is_grown = most > config.instances
        return TaskLimits(most, config.max_records, config.buffer_bytes, is_grown=is_grown)

    def _due(self) -> Cause | None:
        if not self._tasks or self._is_skip_due():
            return None
        first = self._tasks[0]
        cause = self._cause(first)
        if cause is not None:
            return cause
        is_old = self._age() >= self._config.max_age_seconds
        return "age" if is_old and first.num_instances >= self._config.min_instances else None

    def _cause(self, task: FillingTask) -> Cause | None:
        """Return why a task may be cut however old it is."""
        if task.cause is None and task.is_grown and task.num_instances >= self._config.instances:
            return "load"
        return task.cause

    def _is_skip_due(self) -> bool:
        return bool(self._skips) and self._skips[0].num_tasks_before <= self._num_cut

    def _is_full(self) -> bool:
        records, num_bytes = self._elsewhere
        return (
            self._sum("num_records") + records >= self._config.max_records
            or self._sum("num_bytes") + num_bytes >= self._config.buffer_bytes
        )

    def _age(self) -> float:
        return self._now() - self._tasks[0].began_at if self._tasks else 0.0

    def _sum(self, name: str) -> int:
        return sum(getattr(task, name) for task in self._tasks)
