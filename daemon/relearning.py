"""Learns decided tasks once more by the daemon's own deciding core, and compares what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.record_archive import RecordArchive
from teacherd.daemon.base_holdout import BaseHoldout
from teacherd.daemon.comparison import Comparison, compare_teachers
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.entries import Outcome, Plan, Rollback
from teacherd.daemon.errors import StateError, UnavailableError
from teacherd.daemon.leadership import Leadership
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_decoding import OpenDecoder, decoders_for
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.publication import VersionStore
from teacherd.daemon.recovery import gather_holdouts, reread
from teacherd.daemon.remembering import remember
from teacherd.daemon.replay_report import Facts, VerdictComparison, VersionComparison
from teacherd.models.artifact import (
    LoadedTeacher,
    Manifest,
    read_manifest,
    version_folder,
    write_artifact,
)
from teacherd.models.non_finite import NonFiniteError
from teacherd.models.provenance import Provenance

_NOT_COMPARED = {"version", "sha256", "manifest_sha256", "figures", "should_publish"}
"""What the decision does not say by itself; whether to serve depends on the publication's mode."""
_SINCE_THE_GATE = {"arrivals", "is_best"}
"""Outcomes of 0.1.0 say neither."""
_OF_THE_EVALUATION_SETS = ("accuracy.", "student_accuracy.", "forgetting.")
"""Beginnings of figures that decide nothing: today's evaluation sets may be others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecidedTask:
    """A task with what the lineage log says about it."""

    attempts: Sequence[Plan]
    """The plan, and as it was tried again; all but the last came to something not finite."""
    outcome: Outcome
    settings: DecidingConfig
    """In force when it was learned."""
    provenance: Provenance
    """Of the version that it became, if it did."""
    differing_facts: Facts


class Relearning:
    """Owns the deciding core of a replay; tasks come in the order of the log.

    Args:
        lineage: As the entries so far make it.
        head: The version that the first task starts from.
        base: Version 0.
        kept: The lineage's own versions, to compare with.
        made: Where those go that are made again.
        archive: Gives the planned records once more.
        base_holdout: If it is there.
        device: Where to compute.
        leadership: Of the other ranks, which learn with this one.
    """

    def __init__(
        self,
        settings: DecidingConfig,
        *,
        lineage: Lineage,
        head: LoadedTeacher,
        base: LoadedTeacher,
        kept: VersionStore,
        made: VersionStore,
        archive: RecordArchive,
        base_holdout: BaseHoldout | None,
        device: torch.device,
        leadership: Leadership,
    ) -> None:
        self._template = head.manifest
        self._head = head
        self._base_holdout = base_holdout
        self._kept = kept
        self._made = made
        self._archive = archive
        self._device = device
        self._leadership = leadership
        # Evaluation sets decide nothing: none is measured.
        measurement = Measurement(
            (),
            base=base.network,
            preprocessing=head.manifest.design.preprocessing,
            device=device,
            batch_size=1,
        )
        self._lineage = lineage
        self._core = DecidingCore(
            settings,
            head=head,
            device=device,
            measurement=measurement,
            lineage=lineage,
            load_version=self._load_version,
            base=base_holdout,
            build_learner=leadership.choose_learner(head.manifest),
            on_progress=leadership.tick,
        )
        self._gather(settings)

    def recall(self, entries: Sequence[LoggedEntry]) -> None:
        """Fill the rehearsal memory as the tasks before have left it.

        Raises:
            MemoryLostError: Records that it needs are gone or changed.
        """

        def read(plan: Plan, settings: DecidingConfig) -> BufferedTask:
            return reread(plan, self._archive, self._decoders(settings))

        self._core.recall(lambda memory: remember(memory, entries, num_known=0, reread=read))

    def roll_back(
        self, rollback: Rollback, provenance: Provenance, differing_facts: Facts
    ) -> VersionComparison:
        """Make the version that a rollback made, and go on from it; its entry is applied.

        Raises:
            StateError: The version that it goes back to is neither kept nor made again.
        """
        old = self._load(rollback.to)
        manifest = self._made.write(
            rollback.version,
            lambda folder: write_artifact(folder, old.network, old.manifest.design, provenance),
        )
        self._core.roll_back(rollback)
        return VersionComparison(
            version=rollback.version,
            task=None,
            sha256=manifest.weights_sha256,
            logged_sha256=rollback.sha256,
            differing_facts=differing_facts,
        )

    def can_judge(self, decided: DecidedTask) -> bool:
        """Tell whether all is there that the decision was made with; the plan is applied."""
        lineage, standing = self._lineage, self._lineage.standing
        settings, plan = decided.settings, decided.attempts[-1]
        versions = {lineage.current or 0, standing.best}
        if standing.probation is not None:
            versions |= {standing.probation.version, standing.probation.predecessor}
        sha256 = settings.base_holdout_sha256
        found = self._base_holdout
        has_base = found is not None and found.sha256 == sha256
        return not settings.gate.is_on or (
            all(self._is_there(version) for version in versions - {lineage.head})
            and set(plan.holdouts) <= self._core.holdouts.of_tasks.keys()
            and (sha256 is None or has_base or standing.is_base_retired)
        )

    def close(self, outcome: Outcome) -> None:
        """Let an outcome take effect; it is applied, and so is what was published by it."""
        self._core.close(outcome)

    def pass_over(self, settings: DecidingConfig) -> None:
        """Take in the holdout of a task that is not learned again, if it left one."""
        self._gather(settings)

    def read(self, decided: DecidedTask) -> BufferedTask:
        """Return the instances of a task.

        Raises:
            UnavailableError: Its records are gone, or changed.
        """
        return reread(decided.attempts[-1], self._archive, self._decoders(decided.settings))

    def learn(
        self, decided: DecidedTask, task: BufferedTask
    ) -> tuple[VersionComparison | None, VerdictComparison | None]:
        """Learn a task again; return its version, if it became one, and a verdict that differs.

        Where it cannot be judged, or comes out otherwise, the point that is logged is taken.

        Raises:
            UnavailableError: It became a version, and learning it cannot be brought to an end.
        """
        if decided.settings != self._core.settings:
            self._core.configure(decided.settings)
        logged, is_judged = decided.outcome, self.can_judge(decided)
        outcome = self._outcome_now(decided, task, is_judged=is_judged)
        version = None
        if logged.result == "accepted":
            if outcome.result == "quarantined":
                raise UnavailableError(
                    f"task {logged.task} became version {logged.version}, but now: "
                    f"{', '.join(outcome.reasons)}"
                )
            version = self._write(decided, task)
        return version, _compare_verdicts(decided, outcome) if is_judged else None

    def _outcome_now(self, decided: DecidedTask, task: BufferedTask, *, is_judged: bool) -> Outcome:
        """Go through the attempts as the daemon did; return what the last one comes to."""
        reason = ""
        for attempt in decided.attempts:
            if reason:
                self._core.discard()
            self._core.begin(attempt, task)
            try:
                while self._core.step():
                    pass
                return self._judge(decided.outcome, is_judged=is_judged)
            except NonFiniteError as error:
                reason = str(error)
        return Outcome(task=decided.outcome.task, result="quarantined", reasons=(reason,))

    def _judge(self, logged: Outcome, *, is_judged: bool) -> Outcome:
        """Decide, or take the log's word for it, at the end of an attempt."""
        if not is_judged:
            self._core.follow(logged)
            return logged
        state = self._core.state_dict()
        outcome = self._core.drift.add_to(self._core.decide().outcome)
        if logged.result == "accepted" and outcome.point != logged.point:
            self._core.load_state_dict(state)
            self._core.follow(logged)
        return outcome

    def _gather(self, settings: DecidingConfig) -> None:
        gather_holdouts(self._core, self._lineage, self._archive, self._decoders(settings))

    def _decoders(self, settings: DecidingConfig) -> OpenDecoder:
        return decoders_for(settings.decoding, self._template, self._lineage)

    def _is_there(self, version: int) -> bool:
        return any(
            version_folder(store.root, version).is_dir() for store in (self._made, self._kept)
        )

    def _load_version(self, version: int) -> LoadedTeacher:
        """Load a version to compare with; another stands in where nothing is judged by it."""
        return self._load(version) if self._is_there(version) else self._head

    def _load(self, version: int) -> LoadedTeacher:
        """Load a version as it was made again, else the lineage's own."""
        device = str(self._device)
        if version_folder(self._made.root, version).is_dir():
            manifest = read_manifest(version_folder(self._made.root, version))
            return self._made.load(version, manifest.weights_sha256, device=device)
        record = self._lineage.versions[version]
        return self._kept.load(version, record.sha256, record.manifest_sha256, device=device)

    def _write(self, decided: DecidedTask, task: BufferedTask) -> VersionComparison:
        provenance = decided.provenance
        made = self._made.write(
            provenance.version, lambda folder: self._core.write_candidate(folder, provenance)
        )
        logged_sha256 = decided.outcome.sha256
        assert logged_sha256 is not None, "the lineage refuses an accepted outcome without"
        distance = None
        if made.weights_sha256 != logged_sha256:
            distance = self._distance(made, logged_sha256, task)
        return VersionComparison(
            version=provenance.version,
            task=decided.outcome.task,
            sha256=made.weights_sha256,
            logged_sha256=logged_sha256,
            differing_facts=decided.differing_facts,
            largest_difference=distance.largest_difference if distance else None,
            agreement=distance.agreement if distance else None,
        )

    def _distance(self, made: Manifest, sha256: str, task: BufferedTask) -> Comparison | None:
        """Compare with the lineage's own version, if that is still there and undamaged."""
        device = str(self._device)
        try:
            kept = self._kept.load(made.version, sha256, device=device)
        except StateError:
            return None
        again = self._made.load(made.version, made.weights_sha256, device=device)
        return compare_teachers(
            kept, again, task.inputs, device=self._device, on_batch=self._leadership.tick
        )


def _compare_verdicts(decided: DecidedTask, now: Outcome) -> VerdictComparison | None:
    """Return in what a decision differs from the logged one, None where in nothing."""
    logged = decided.outcome
    differences: dict[str, tuple[Any, Any]] = {}
    if logged.result != now.result or now.result != "quarantined":
        unsaid = _NOT_COMPARED | (_SINCE_THE_GATE if logged.arrivals is None else set())
        for name in {field.name for field in fields(Outcome)} - unsaid:
            before, after = getattr(logged, name), getattr(now, name)
            if before != after:
                differences[name] = (before, after)
        if logged.should_publish and not now.should_publish:
            differences["should_publish"] = (True, False)
        differences |= _differing_figures(logged.figures, now.figures)
    if not differences:
        return None
    return VerdictComparison(
        task=logged.task, differing_facts=decided.differing_facts, differences=differences
    )


def _differing_figures(
    before: Mapping[str, float], now: Mapping[str, float]
) -> dict[str, tuple[Any, Any]]:
    names = [name for name in {**before, **now} if not name.startswith(_OF_THE_EVALUATION_SETS)]
    return {
        f"figures.{name}": (before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    }
