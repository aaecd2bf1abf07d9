"""Goes on where the lineage log ends: what a process before left undone is read and done."""

import functools

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.record_archive import RecordArchive
from teacherd.daemon.config import Config, DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.entries import Plan
from teacherd.daemon.learning import Learning
from teacherd.daemon.lineage_decoding import decoders_for
from teacherd.daemon.recovery import RecordsChangedError, gather_holdouts, recover_deferred, reread
from teacherd.daemon.remembering import recall
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.artifact import Manifest


class Resumption:
    """Of a start: reads records of the past once more, however long that takes.

    Args:
        config: Of now; what was planned is finished with the settings that it was planned with.
        state: What the process before left.
        head: The version that the next task starts from.
        archive: The stream.
    """

    def __init__(
        self, config: Config, *, state: StateDirectory, head: Manifest, archive: RecordArchive
    ) -> None:
        self._config = config
        self._state = state
        self._head = head
        self._archive = archive

    def make_good_deferred(self, settings: DecidingConfig) -> None:
        """Read deferred records that are damaged once more.

        Args:
            settings: In force for the next task.

        Raises:
            RecordsChangedError: They are gone from the stream as well.
        """
        state = self._state
        if not state.missing:
            return
        decoders = decoders_for(settings.decoding, self._head, state.journal.lineage)
        restored = recover_deferred(state, self._archive, decoders)
        if not restored and self._config.on_lost_records == "stop":
            first = state.missing[0]
            raise RecordsChangedError(
                f"{len(state.missing)} records that task {first.task} and others have "
                "deferred are damaged in the state directory and gone from the stream; restore "
                "a backup, or set on_lost_records: continue in the source's section to do "
                "without them"
            )

    def fill(self, core: DecidingCore) -> None:
        """Give the core the holdouts and the memory that no readable checkpoint has."""
        lineage = self._state.journal.lineage
        decoders = decoders_for(core.settings.decoding, self._head, lineage)
        gather_holdouts(core, lineage, self._archive, decoders)
        configured = self._config.learning.memory
        core.recall(
            functools.partial(recall, state=self._state, reread=self._reread, configured=configured)
        )

    def finish(self, learning: Learning, settings: DecidingConfig) -> None:
        """Take up a plan that has no outcome yet, if there is one.

        Args:
            learning: Learns it.
            settings: That it was planned with; those of now are for the task after it.

        Raises:
            RecordsChangedError: Its records are gone, and the configuration says stop.
        """
        plan = self._state.journal.lineage.unfinished
        if plan is None:
            return
        try:
            task = self._reread(plan, settings)
        except RecordsChangedError as error:
            if self._config.on_lost_records == "stop":
                raise
            learning.lose(plan, str(error.__cause__))
        else:
            self._resume(learning, plan, task)
        learning.reconfigure(self._config.deciding, self._config.checkpoints)

    def _reread(self, plan: Plan, settings: DecidingConfig) -> BufferedTask:
        state = self._state
        decoders = decoders_for(settings.decoding, self._head, state.journal.lineage)
        return reread(plan, self._archive, decoders, state.quarantine, state.deferred)

    def _resume(self, learning: Learning, plan: Plan, task: BufferedTask) -> None:
        newest = self._state.newest
        is_inside = (
            newest is not None
            and newest.checkpoint.task == plan.task
            and newest.checkpoint.pin == self._state.journal.pin
        )
        learning.resume(plan, task, newest.learner_state if newest and is_inside else None)
