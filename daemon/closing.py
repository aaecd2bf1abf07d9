"""Closes a task: its outcome, and everything that follows from it, in the order of events."""

from collections.abc import Callable
from dataclasses import replace

from teacherd.consumers.source import Release
from teacherd.daemon.checkpoint import CheckpointStore
from teacherd.daemon.checkpointing import Checkpointing
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.decision import Decision
from teacherd.daemon.deferring import Deferring
from teacherd.daemon.entries import Outcome, Publish
from teacherd.daemon.journal import Journal
from teacherd.daemon.load import Load
from teacherd.daemon.observation import Observation
from teacherd.daemon.publication import PublicationMode, VersionStore
from teacherd.daemon.quarantining import Quarantining
from teacherd.daemon.retrying import Retrying
from teacherd.daemon.running_task import RunningTask
from teacherd.daemon.verdict import verdict_of
from teacherd.models.artifact import Manifest
from teacherd.models.provenance import Provenance


class Closing:
    """Of the learning thread; each thing is durable before the next.

    Args:
        mode: Whether what passes the gate is served without being asked for.
        checkpoints: Say which records the kept ones need.
        checkpointing: Writes the one after a task.
        quarantining: Told what is no longer set aside.
        deferring: Told what is no longer deferred.
        retrying: Says which records it needs.
        load: Told what a task cost.
        release: Told what is decided and what is still needed, after the checkpoint.
        monotonic: Seconds.
    """

    def __init__(
        self,
        mode: PublicationMode,
        *,
        core: DecidingCore,
        journal: Journal,
        checkpoints: CheckpointStore,
        checkpointing: Checkpointing,
        versions: VersionStore,
        quarantining: Quarantining,
        deferring: Deferring,
        retrying: Retrying,
        load: Load,
        observation: Observation,
        release: Release,
        monotonic: Callable[[], float],
    ) -> None:
        self._mode = mode
        self._core = core
        self._journal = journal
        self._checkpoints = checkpoints
        self._checkpointing = checkpointing
        self._versions = versions
        self._quarantining = quarantining
        self._deferring = deferring
        self._retrying = retrying
        self._load = load
        self._observation = observation
        self._release = release
        self._monotonic = monotonic

    def close_decided(self, running: RunningTask, decision: Decision) -> None:
        """Close a task that was learned to its end; an accepted one becomes a version first.

        Raises:
            StateError: The disk refused.
        """
        outcome, manifest = decision.outcome, None
        if outcome.result == "accepted":
            manifest = self._write_version(running, outcome)
            outcome = replace(
                outcome,
                version=manifest.version,
                sha256=manifest.weights_sha256,
                manifest_sha256=self._versions.manifest_sha256(manifest.version),
                should_publish=outcome.should_publish and self._mode == "automatic",
            )
            self._observation.learned(
                manifest.version,
                decision.report,
                decision.evaluations,
                decision.student_accuracy,
            )
        self.close(running, outcome, manifest)

    def close(
        self, running: RunningTask, outcome: Outcome, manifest: Manifest | None = None
    ) -> None:
        """Make the outcome durable, then everything that follows from it.

        Args:
            running: Is in progress no more.
            outcome: What becomes of it.
            manifest: Of its version, where it was accepted.

        Raises:
            StateError: The disk refused.
        """
        outcome = self._core.drift.add_to(outcome)
        self._journal.record(outcome)
        if manifest is not None and outcome.should_publish:
            probation = self._core.settings.gate.probation_tasks
            self._journal.record(Publish(version=manifest.version, probation_tasks=probation))
        self._core.close(outcome)
        if outcome.head_returns:
            self._observation.head_measured(self._core.measure(self._journal.lineage.head))
        self._checkpointing.write_between()
        if manifest is not None and outcome.should_publish:
            self._versions.serve(manifest)
            self._observation.published(manifest, self._journal.lineage)
        self._versions.prune(self._journal.lineage)
        self._quarantining.mend(self._journal.lineage)
        self._deferring.mend(self._journal.lineage)
        self.release()
        self._tell(running, outcome)

    def release(self) -> None:
        """Tell the source what is decided, and from where on records are still needed."""
        lineage = self._journal.lineage
        needed_from = self._retrying.hold(self._checkpoints.needed_from(), lineage)
        self._release(dict(lineage.places), needed_from=needed_from)

    def _tell(self, running: RunningTask, outcome: Outcome) -> None:
        seconds = self._monotonic() - running.started
        is_learned = outcome.result in ("accepted", "held") and not outcome.is_cut_short
        if running.is_whole and is_learned:
            self._load.learned(running.plan, seconds)
        self._observation.task_closed(running.plan, outcome, seconds, self._journal.lineage)

    def _write_version(self, running: RunningTask, outcome: Outcome) -> Manifest:
        lineage = self._journal.lineage
        provenance = Provenance(
            lineage=lineage.id,
            epoch=lineage.epoch,
            version=lineage.next_version,
            parent=lineage.head,
            tasks=(running.plan.task,),
            verdict=verdict_of(outcome),
            metrics=outcome.figures,
            created_at=self._observation.timestamp(),
        )
        return self._versions.write(
            provenance.version, lambda folder: self._core.write_candidate(folder, provenance)
        )
