"""Writes the learning thread's checkpoints: between two tasks, and inside one when it is due."""

from collections.abc import Callable, Mapping
from typing import Any

from teacherd.daemon.checkpoint import Checkpoint, CheckpointConfig, CheckpointStore, Place
from teacherd.daemon.checkpoint_schedule import CheckpointSchedule
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.entries import Plan
from teacherd.daemon.errors import StateError
from teacherd.daemon.journal import Journal
from teacherd.daemon.observation import Observation


class Checkpointing:
    """Knows what a checkpoint of this lineage says, and when one inside a task is due.

    Args:
        monotonic: Seconds.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        *,
        store: CheckpointStore,
        journal: Journal,
        core: DecidingCore,
        observation: Observation,
        monotonic: Callable[[], float],
    ) -> None:
        self.schedule = CheckpointSchedule(config)
        self._store = store
        self._journal = journal
        self._core = core
        self._observation = observation
        self._monotonic = monotonic

    def begin(self) -> None:
        """Count from here: a task, or an attempt at it, begins."""
        self.schedule.begin(self._monotonic(), step=0)

    def write_if_due(self, plan: Plan) -> None:
        """Write one inside a task now and then; a failure costs only speed."""
        started, step = self._monotonic(), self._core.num_steps_done
        if not self.schedule.is_due(started, step):
            return
        try:
            self.write_inside(plan)
        except StateError as error:
            # The plan is in the log, and the next one may succeed.
            self._observation.checkpoint_failed(error)
        self.schedule.tried(started, self._monotonic(), step)

    def write_inside(self, plan: Plan) -> None:
        """Write one inside a task.

        Raises:
            StateError: The disk refused.
        """
        checkpoint = Checkpoint(
            lineage=self._journal.lineage.id,
            pin=self._journal.pin,
            head=self._journal.lineage.head,
            task=plan.task,
            step=self._core.num_steps_done,
            places=self._places(plan),
        )
        self._save(checkpoint, self._core.state_dict())

    def write_between(self) -> None:
        """Write one between two tasks.

        Raises:
            StateError: The disk refused.
        """
        lineage = self._journal.lineage
        checkpoint = Checkpoint(
            lineage=lineage.id, pin=self._journal.pin, head=lineage.head, places=self._places()
        )
        self._save(checkpoint, None)

    def _places(self, plan: Plan | None = None) -> tuple[Place, ...]:
        """Return from where on records are needed: those of a plan in progress as well."""
        places = {
            (topic, number): at for (topic, number), at in self._journal.lineage.places.items()
        }
        for closed in plan.ranges if plan else ():
            places[closed.topic, closed.partition] = closed.start
        return tuple(Place(*partition, offset) for partition, offset in places.items())

    def _save(self, checkpoint: Checkpoint, state: Mapping[str, Any] | None) -> None:
        started = self._monotonic()
        size = self._store.save(checkpoint, state, self._core.holdouts.of_tasks, self._core.memory)
        self._observation.checkpointed(checkpoint, size, self._monotonic() - started)
