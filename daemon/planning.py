"""Makes the plan of a task: all that was decided about it by clock or load stands in it."""

from dataclasses import replace

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.deferring import ReadyTask
from teacherd.daemon.entries import Plan
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.load import Load
from teacherd.daemon.range_words import closed_range
from teacherd.models.task import Schedule


class Planning:
    """Knows the schedule that new plans follow.

    Args:
        schedule: In force for the next plan.
        lineage: As the entries so far make it.
        core: Says what is held out and how drift changes the learning rate.
        buffer: Says how much waits.
        load: Says how many epochs there is time for.
        has_open_labels: Whether a task may have new classes.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        lineage: Lineage,
        core: DecidingCore,
        buffer: TaskBuffer,
        load: Load,
        has_open_labels: bool,
    ) -> None:
        self.schedule = schedule
        self._lineage = lineage
        self._core = core
        self._buffer = buffer
        self._load = load
        self._has_open_labels = has_open_labels

    def configure(self, settings: DecidingConfig) -> None:
        """Follow other settings from the next plan on; the seed is the lineage's."""
        self.schedule = settings.learning.schedule(self.schedule.seed)

    def plan(self, ready: ReadyTask) -> Plan:
        """Return the plan of a task that was cut; it is not recorded yet."""
        lineage, task, found = self._lineage, ready.task, ready.sorted
        number = lineage.num_tasks + 1
        closed = [
            replace(closed_range(planned), deferred=found.deferred.get(planned.partition, ()))
            for planned in task.ranges
        ]
        ranges = self._core.holding_out.close_ranges(task, closed)
        return Plan(
            task=number,
            cause=task.cause,
            head=lineage.head,
            seed=self.schedule.seed,
            epochs=self._choose_epochs(task),
            learning_rate=self.schedule.learning_rate
            * self._core.drift.learning_rate_factor(task.cause),
            num_instances=len(task.labels)
            - sum(len(each.held_out) + len(each.deferred) for each in ranges)
            + sum(len(each.offsets) - len(each.held_out) for each in found.taken),
            ranges=ranges,
            holdouts=self._core.holding_out.tasks_for(number),
            has_open_labels=self._has_open_labels,
            new_classes=found.new_classes,
            named=found.named,
            taken=found.taken,
            dropped=found.dropped,
        )

    def _choose_epochs(self, task: BufferedTask) -> int:
        is_largest = len(task.labels) >= self._buffer.largest_instances
        return self._load.choose_epochs(
            self.schedule.epochs,
            self._core.settings.learning.min_epochs,
            is_largest=is_largest or task.cause == "capacity",
            num_records=task.num_records,
            waiting=self._buffer.num_records,
        )
