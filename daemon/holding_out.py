"""Decides what of a task is held out and which holdouts it is measured with, and takes them in."""

from collections.abc import Sequence
from dataclasses import replace

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.daemon.entries import ClosedRange
from teacherd.daemon.gate import GateConfig
from teacherd.daemon.holdout_split import Instances, build_holdout, hold_out, split
from teacherd.daemon.holdouts import Holdouts
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.standing import HeldOut


class HoldingOut:
    """Knows the settings for it; the holdouts themselves are elsewhere.

    Args:
        config: In force for the next task.
        lineage: As the entries so far make it.
        holdouts: Get what is held out.
    """

    def __init__(self, config: GateConfig, *, lineage: Lineage, holdouts: Holdouts) -> None:
        self._config = config
        self._lineage = lineage
        self._holdouts = holdouts

    def close_ranges(
        self, task: BufferedTask, ranges: Sequence[ClosedRange]
    ) -> tuple[ClosedRange, ...]:
        """Return a new task's ranges with what is held out of them, for its plan."""
        return tuple(hold_out(task, ranges, self._config.holdout_share))

    def tasks_for(self, task: int) -> tuple[int, ...]:
        """Return the earlier tasks whose holdouts a new task is measured with, for its plan."""
        known = self._holdouts.of_tasks
        standing = self._lineage.standing
        wanted = standing.holdouts_for(task, num_tasks=self._config.holdout_tasks)
        return tuple(each for each in wanted if each in known)

    def take(self, number: int, where: HeldOut, task: BufferedTask) -> Instances:
        """Take in what a task's plan holds out; return what is to be learned."""
        learned, held_out = split(task, where, self._lineage.first_classes)
        holdout = build_holdout(
            number,
            held_out,
            most=self._config.holdout_instances,
            most_bytes=self._config.holdout_bytes // self._config.holdout_tasks,
        )
        has_first_only = holdout.classes == self._lineage.first_classes
        self._holdouts.put(replace(holdout, classes=()) if has_first_only else holdout)
        return learned
