"""The task buffer of rank 0: its own, and what it knows of those of the other ranks."""

from collections.abc import Callable, Sequence

from teacherd.consumers.buffer_standing import BufferStanding, due_together
from teacherd.consumers.buffered_task import BufferedTask, Cause
from teacherd.consumers.task_buffer import LostRange, TaskBuffer, TaskBufferConfig
from teacherd.consumers.task_merging import merge_tasks
from teacherd.daemon.leader import Leader


class LeadingBuffer(TaskBuffer):
    """Intake fills this rank's part; learning waits for, and cuts, the tasks of all ranks.

    Args:
        leader: Asks the others.
        now: Seconds; decides when a task is old.
    """

    def __init__(
        self, config: TaskBufferConfig, *, leader: Leader, now: Callable[[], float]
    ) -> None:
        super().__init__(config, now=now)
        self._leader = leader
        leader.take_over(self)

    @property
    def num_records(self) -> int:
        """Return how many records wait, rejected ones included."""
        return sum(each.waiting_records for each in self._standings())

    @property
    def num_instances(self) -> int:
        """Return how many instances wait."""
        return sum(each.waiting_instances for each in self._standings())

    @property
    def num_bytes(self) -> int:
        """Return how much memory what waits takes."""
        return sum(each.waiting_bytes for each in self._standings())

    @property
    def oldest_age_seconds(self) -> float:
        """Return for how long the first record has waited; 0 if none waits."""
        return max(each.age_seconds for each in self._standings())

    def take_skips(self) -> Sequence[LostRange]:
        """Hand over what is to be noted as gone before the next task is cut."""
        return [*super().take_skips(), *self._leader.take_skips()]

    def wait_for_cut(self, timeout_seconds: float) -> Cause | None:
        """Wait until a task should be cut; return why, or None if none should be yet.

        Raises:
            UnavailableError: Too many of the newest records of all ranks were rejected.
        """
        super().wait_for_cut(timeout_seconds)
        self._leader.tick()
        self._leader.require_good_records()
        return due_together(
            self._standings(),
            instances=self._config.instances,
            min_instances=self._config.min_instances,
            max_age_seconds=self._config.max_age_seconds,
            max_records=self._config.max_records,
            buffer_bytes=self._config.buffer_bytes,
        )

    def cut(self, cause: Cause) -> BufferedTask:
        """Hand over the oldest tasks of all ranks as one.

        Raises:
            UnavailableError: Too many of the newest records of all ranks were rejected.
        """
        own = [super().cut(cause)] if self.can_be_cut else []
        parts = [*own, *self._leader.collect_parts(cause)]
        # Before they are in a plan: the next start reads them again.
        self._leader.require_good_records()
        return merge_tasks(parts, cause=cause)

    def _standings(self) -> list[BufferStanding]:
        return [self.standing(), *(report.standing for report in self._leader.reports)]
