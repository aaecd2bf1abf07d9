"""Learns decided tasks once more by the daemon's own deciding core, and compares what comes out."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any

import torch

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.record_archive import RecordArchive
from teacherd.daemon.comparison import Comparison, compare_teachers
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.entries import Outcome, Plan, Rollback
from teacherd.daemon.errors import StateError, UnavailableError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.publication import VersionStore
from teacherd.daemon.recovery import build_decoder, gather_holdouts, reread
from teacherd.daemon.replay_report import Facts, VerdictComparison, VersionComparison
from teacherd.models.artifact import LoadedTeacher, Manifest, read_manifest, version_folder
from teacherd.models.learner import NonFiniteError
from teacherd.models.provenance import Provenance

_NOT_COMPARED = ("version", "sha256", "manifest_sha256", "figures", "should_publish")
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
        device: Where to compute.
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
        device: torch.device,
    ) -> None:
        self._template = head.manifest
        self._kept = kept
        self._made = made
        self._archive = archive
        self._device = device
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
        )
        with closing(build_decoder(settings.decoding, head.manifest)) as decoder:
            gather_holdouts(self._core, lineage, archive, decoder)

    def roll_back(self, rollback: Rollback) -> None:
        """Go on from the version that a rollback made."""
        self._core.roll_back(rollback)

    def read(self, decided: DecidedTask) -> BufferedTask:
        """Return the instances of a task.

        Raises:
            UnavailableError: Its records are gone, or changed.
        """
        with closing(build_decoder(decided.settings.decoding, self._template)) as decoder:
            return reread(decided.attempts[-1], self._archive, decoder)

    def learn(
        self, decided: DecidedTask, task: BufferedTask
    ) -> tuple[VersionComparison | None, VerdictComparison | None]:
        """Learn a task again; return its version, if it became one, and a verdict that differs.

        Raises:
            UnavailableError: It became a version, and learning it cannot be brought to an end.
        """
        if decided.settings != self._core.settings:
            self._core.configure(decided.settings)
        outcome = self._core.drift.add_to(self._outcome_now(decided, task))
        logged = decided.outcome
        version = None
        if logged.result == "accepted":
            if outcome.result == "quarantined":
                raise UnavailableError(
                    f"task {logged.task} became version {logged.version}, but now: "
                    f"{', '.join(outcome.reasons)}"
                )
            version = self._write(decided, task)
        self._core.close(logged)
        return version, _compare_verdicts(decided, outcome)

    def _outcome_now(self, decided: DecidedTask, task: BufferedTask) -> Outcome:
        """Go through the attempts as the daemon did; return what the last one comes to."""
        reason = ""
        for attempt in decided.attempts:
            if reason:
                self._core.discard()
            self._core.begin(attempt, task)
            try:
                while self._core.step():
                    pass
                return self._core.decide().outcome
            except NonFiniteError as error:
                reason = str(error)
        return Outcome(task=decided.outcome.task, result="quarantined", reasons=(reason,))

    def _load_version(self, version: int) -> LoadedTeacher:
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
        return compare_teachers(kept, again, task.inputs, device=self._device)


def _compare_verdicts(decided: DecidedTask, now: Outcome) -> VerdictComparison | None:
    """Return in what a decision differs from the logged one, None where in nothing."""
    logged = decided.outcome
    differences: dict[str, tuple[Any, Any]] = {}
    if logged.result != now.result or now.result != "quarantined":
        for name in (field.name for field in fields(Outcome)):
            before, after = getattr(logged, name), getattr(now, name)
            if name not in _NOT_COMPARED and before != after:
                differences[name] = (before, after)
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
