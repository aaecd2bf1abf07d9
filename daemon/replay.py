"""A replay: the entries of a lineage log followed once more, from one version to another.

It goes by the same deciding core as the daemon, in a directory of its own, and holds what it comes
to against the log. It reads log, versions and records, takes no lock and changes nothing of them.
"""

from collections.abc import Callable, Sequence

import torch

from teacherd.consumers.record_archive import RecordArchive
from teacherd.daemon.base_holdout import BaseHoldout
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.entries import Outcome, Plan, Publish, Retry, Rollback, Runtime
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.leadership import Leadership
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.publication import VersionStore
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.relearning import DecidedTask, Relearning
from teacherd.daemon.replay_report import (
    Facts,
    ReplayReport,
    VerdictComparison,
    VersionComparison,
)
from teacherd.daemon.runtime_facts import differing_facts, runtime_facts
from teacherd.daemon.verdict import verdict_of
from teacherd.models.artifact import LoadedTeacher
from teacherd.models.provenance import Provenance

_NOT_LEARNED = {"empty", "lost"}
_NOT_REPEATABLE: Facts = {"order of sums": ("any, on CUDA", "any, on CUDA")}
"""Stands among the differing facts where two runs on the same device need not agree."""


class Replay:
    """Makes versions again from the records of their tasks; one use.

    Args:
        entries: Of the lineage log.
        start: Version to begin with; its weights are in `kept`.
        target: Version to end with; None follows the log to its end.
        kept: The lineage's own versions.
        made: Where those go that are made again.
        archive: Gives the planned records once more.
        base_holdout: If it is there.
        device: Where to compute.
        leadership: Of the other ranks.
        on_task: Told how many of how many tasks are done.
    """

    def __init__(
        self,
        entries: Sequence[LoggedEntry],
        *,
        start: int,
        target: int | None,
        kept: VersionStore,
        made: VersionStore,
        archive: RecordArchive,
        base_holdout: BaseHoldout | None,
        device: torch.device,
        leadership: Leadership,
        on_task: Callable[[int, int], None],
    ) -> None:
        self._entries = entries
        self._start = start
        self._target = target
        self._kept = kept
        self._made = made
        self._archive = archive
        self._base_holdout = base_holdout
        self._device = device
        self._leadership = leadership
        self._on_task = on_task
        self._lineage = Lineage()
        self._relearning: Relearning | None = None
        self._closing: Outcome | None = None
        self._attempts: list[Plan] = []
        self._facts: Facts = {}
        self._task_facts: Facts = {}
        self._inherited: dict[int, Facts] = {}
        """By version that came out otherwise: why. What follows from it does so, too."""
        self._versions: list[VersionComparison] = []
        self._verdicts: list[VerdictComparison] = []
        self._num_verdicts = 0
        self._not_judged: list[int] = []
        self._num_followed = 0

    def run(self) -> ReplayReport:
        """Follow the entries up to the target.

        Raises:
            UnavailableError: Records that a version was made from are gone, or changed.
            StateError: The version to begin with is damaged.
        """
        num_tasks, done = self._count_tasks(), 0
        threads = torch.get_num_threads()
        try:
            for place, logged in enumerate(self._entries):
                self._num_followed = place
                if self._target in self._lineage.versions:
                    break
                is_task = self._has_begun and isinstance(logged.entry, Outcome)
                self._follow(logged)
                if is_task:
                    done += 1
                    self._on_task(done, num_tasks)
        finally:
            torch.set_num_threads(threads)
        return ReplayReport(
            lineage=self._lineage.id,
            start=self._start,
            target=self._lineage.next_version - 1 if self._target is None else self._target,
            versions=tuple(self._versions),
            num_verdicts=self._num_verdicts,
            verdicts=tuple(self._verdicts),
            not_judged=tuple(self._not_judged),
        )

    @property
    def _has_begun(self) -> bool:
        return self._start in self._lineage.versions

    def _count_tasks(self) -> int:
        lineage, number = Lineage(), 0
        for logged in self._entries:
            if self._target in lineage.versions:
                break
            number += self._start in lineage.versions and isinstance(logged.entry, Outcome)
            lineage.apply(logged.entry)
        return number

    def _follow(self, logged: LoggedEntry) -> None:
        """Do what an entry says, as far as it lies after the start; then take it into account."""
        entry = logged.entry
        if not isinstance(entry, Publish):
            self._close()
        has_begun = self._has_begun
        if has_begun and isinstance(entry, Outcome) and _was_learned(entry):
            self._learn_again(entry, logged.written_at)
        if has_begun and isinstance(entry, Rollback):
            self._relearning = self._relearning or self._begin()
        self._lineage.apply(entry)
        match entry:
            case Runtime():
                self._take_runtime(entry)
            case Rollback() if self._relearning is not None:
                self._roll_back(self._relearning, entry, logged.written_at)
            case Plan():
                self._attempts, self._task_facts = [entry], self._facts
            case Retry():
                self._take_retry(entry)
            case Outcome():
                self._closing = entry

    def _close(self) -> None:
        """Let the last outcome take effect, once everything is applied that went with it."""
        outcome, self._closing = self._closing, None
        if outcome is not None and self._relearning is not None:
            self._relearning.close(outcome)
            if not _was_learned(outcome):
                self._relearning.pass_over(self._settings())

    def _take_runtime(self, runtime: Runtime) -> None:
        threads = runtime.facts.get("threads", "")
        if threads.isdecimal() and self._device.type == "cpu":
            # Bits depend on the number, and every machine can compute with any.
            torch.set_num_threads(int(threads))
            self._leadership.tell(RankMessage("threads", {"number": int(threads)}))
        settings = self._lineage.settings
        decoder = self._settings().decoding.decoder if settings is not None else None
        now = runtime_facts(self._device, decoder=decoder, num_ranks=self._leadership.num_ranks)
        self._facts = differing_facts(runtime.facts, now)
        if self._device.type == "cuda":
            self._facts = {**self._facts, **_NOT_REPEATABLE}
        # A task that was interrupted has steps of both.
        self._task_facts = {**self._task_facts, **self._facts}

    def _take_retry(self, retry: Retry) -> None:
        attempt = self._lineage.unfinished
        assert attempt is not None, "a retry makes a plan the unfinished one"
        if retry.cause != "nonfinite":
            self._attempts, self._task_facts = [], self._facts
        self._attempts.append(attempt)

    def _learn_again(self, outcome: Outcome, written_at: str) -> None:
        relearning = self._relearning = self._relearning or self._begin()
        decided = DecidedTask(
            attempts=self._attempts,
            outcome=outcome,
            settings=self._settings(),
            provenance=self._provenance(outcome, written_at),
            differing_facts={**self._facts_of_ancestors(), **self._task_facts},
        )
        is_judged = relearning.can_judge(decided)
        try:
            task = relearning.read(decided)
        except UnavailableError:
            if outcome.result == "accepted":
                raise
            self._not_judged.append(outcome.task)
            return
        version, verdict = relearning.learn(decided, task)
        if is_judged:
            self._num_verdicts += 1
        else:
            self._not_judged.append(outcome.task)
        if version is not None:
            self._keep(version)
        self._verdicts += [verdict] if verdict else []

    def _begin(self) -> Relearning:
        base, head = (self._load(version) for version in (0, self._lineage.head))
        relearning = Relearning(
            self._settings(),
            lineage=self._lineage,
            head=head,
            base=base,
            kept=self._kept,
            made=self._made,
            archive=self._archive,
            base_holdout=self._base_holdout,
            device=self._device,
            leadership=self._leadership,
        )
        relearning.recall(self._entries[: self._num_followed])
        return relearning

    def _load(self, version: int) -> LoadedTeacher:
        record = self._lineage.versions[version]
        return self._kept.load(
            version, record.sha256, record.manifest_sha256, device=str(self._device)
        )

    def _settings(self) -> DecidingConfig:
        settings = self._lineage.settings
        assert settings is not None, "every plan comes after a config entry"
        return DecidingConfig.from_entry(settings.settings)

    def _provenance(self, outcome: Outcome, written_at: str) -> Provenance:
        lineage = self._lineage
        return Provenance(
            lineage=lineage.id,
            epoch=lineage.epoch,
            version=lineage.next_version,
            parent=lineage.head,
            tasks=(outcome.task,),
            verdict=verdict_of(outcome),
            metrics=outcome.figures,
            created_at=written_at,
        )

    def _roll_back(self, relearning: Relearning, rollback: Rollback, written_at: str) -> None:
        provenance = Provenance(
            lineage=self._lineage.id,
            epoch=self._lineage.epoch,
            version=rollback.version,
            parent=rollback.to,
            verdict={"result": rollback.kind},
            created_at=written_at,
        )
        facts = {**self._inherited.get(rollback.to, {}), **self._facts}
        self._keep(relearning.roll_back(rollback, provenance, facts))

    def _facts_of_ancestors(self) -> Facts:
        """Return why what a task is learned from and judged against came out otherwise."""
        lineage = self._lineage
        facts: Facts = {}
        for version in (lineage.head, lineage.current or 0, lineage.standing.best):
            facts = {**facts, **self._inherited.get(version, {})}
        return facts

    def _keep(self, version: VersionComparison) -> None:
        self._versions.append(version)
        if version.result != "equal":
            self._inherited[version.version] = version.differing_facts


def _was_learned(outcome: Outcome) -> bool:
    return outcome.result not in _NOT_LEARNED and not outcome.is_cut_short
