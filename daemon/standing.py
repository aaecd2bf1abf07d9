"""What the gate remembers: a fold over the lineage's entries, and nothing else.

So it is the same after a crash and in a replay. Folded per task: whatever a task's instances
showed before they were learned stands in its outcome.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from teacherd.daemon.entries import (
    Arrivals,
    Check,
    ClosedRange,
    Config,
    Deferred,
    Outcome,
    Plan,
    Publish,
    Rollback,
)
from teacherd.daemon.paired_test import PairedCounts

_NUM_USUAL_TASKS = 10
"""Tasks before that a task is compared with."""
_SUSPICIOUS_DEVIATIONS = 3.1
"""By chance one task in a thousand is as far off."""
_NUM_SERVED = 100
"""Versions served one after the other that are remembered, to roll back to."""


@dataclass(frozen=True, slots=True)
class Probation:
    """A newly served version, compared on what arrives with the one that was served before it."""

    version: int
    predecessor: int
    tasks_left: int
    counts: PairedCounts = field(default_factory=PairedCounts)
    """Of the version against its predecessor."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Where a task's holdout is found."""

    ranges: tuple[ClosedRange, ...] = ()
    taken: tuple[Deferred, ...] = ()
    has_open_labels: bool = False


def where_held_out(plan: Plan) -> HeldOut:
    """Return where a plan's holdout is found, and what else is in the same places."""
    return HeldOut(plan.ranges, plan.taken, plan.has_open_labels)


class Standing:
    """Best version, holdouts in use, held tasks, suspected drift, probation, what was served."""

    def __init__(self) -> None:
        self.best = 0
        """Best version so far."""
        self.held_in_a_row = 0
        self.holdouts: dict[int, HeldOut] = {}
        """By task, where its holdout is found."""
        self.is_base_retired = False
        self.onset: int | None = None
        """Task with which a suspected drift began."""
        self.suspicions = 0
        """Suspicious tasks in a row."""
        self.contradictions = 0
        """Tasks in a row that were held because old holdouts contradict a sure gain."""
        self.probation: Probation | None = None
        self.served: list[int] = []
        """The versions served so far, oldest first; rolled back ones are no longer among them."""
        self._usual: deque[Arrivals] = deque(maxlen=_NUM_USUAL_TASKS)

    @property
    def predecessor(self) -> int | None:
        """The version that was served before the current one."""
        return self.served[-2] if len(self.served) > 1 else None

    def holdouts_for(self, task: int, *, num_tasks: int) -> tuple[int, ...]:
        """Return the earlier tasks whose holdouts a new task is measured with."""
        return tuple(each for each in self.holdouts if task - each <= num_tasks)

    def is_suspicious(self, arrivals: Arrivals, *, excess: float) -> bool:
        """Tell whether the head got surely, and by more than the excess, more wrong than usual."""
        before = sum(each.num for each in self._usual)
        if not before or not arrivals.num:
            return False
        wrong = sum(each.wrong for each in self._usual)
        pooled = (wrong + arrivals.wrong) / (before + arrivals.num)
        deviation = math.sqrt(pooled * (1 - pooled) * (1 / before + 1 / arrivals.num))
        rise = arrivals.wrong / arrivals.num - wrong / before
        return rise > max(excess, _SUSPICIOUS_DEVIATIONS * deviation)

    def watch(self, arrivals: Arrivals) -> PairedCounts:
        """Return how the version on probation has done up to and including these arrivals."""
        if self.probation is None or arrivals.watched != self.probation.version:
            return PairedCounts()
        return self.probation.counts + PairedCounts(arrivals.num, arrivals.won, arrivals.lost)

    def describe_failure(self, arrivals: Arrivals) -> str:
        """Say in words how the version on probation did, up to and including these arrivals."""
        counts = self.watch(arrivals)
        before = self.probation.predecessor if self.probation else None
        return (
            f"version {arrivals.watched} failed its probation: of {counts.num} instances that "
            f"arrived, only version {before} got {counts.lost} right, only the other {counts.won}"
        )

    def configure(self, before: Config | None, after: Config) -> None:
        """Take in other settings: another base holdout is not retired."""
        key = "base_holdout_sha256"
        if before is None or before.settings.get(key) != after.settings.get(key):
            self.is_base_retired = False

    def plan(self, plan: Plan) -> None:
        """Take in a plan: its own holdout comes, what it does not name has expired."""
        self.holdouts = {task: self.holdouts[task] for task in plan.holdouts}
        ranges = tuple(closed for closed in plan.ranges if closed.held_out)
        taken = tuple(each for each in plan.taken if each.held_out)
        if ranges or taken:
            self.holdouts[plan.task] = HeldOut(ranges, taken, plan.has_open_labels)

    def close(self, outcome: Outcome, *, is_newest: bool) -> None:
        """Take in what became of a plan: the newest, or an older one that was tried again."""
        if outcome.result in {"quarantined", "lost"}:
            self.holdouts.pop(outcome.task, None)
        if outcome.result == "accepted":
            self.held_in_a_row = 0
            if outcome.is_best and outcome.version is not None:
                self.best = outcome.version
        elif outcome.gate == "failed":
            self.held_in_a_row = 0 if outcome.head_returns else self.held_in_a_row + 1
        for task in outcome.retired:
            self.holdouts.pop(task, None)
        self.is_base_retired |= outcome.is_base_retired
        if is_newest and outcome.arrivals is not None:
            self._close_arrivals(outcome, outcome.arrivals)

    def publish(self, publish: Publish) -> None:
        """Take in that a version is served."""
        if self.served and publish.version != self.served[-1] and publish.probation_tasks:
            self.probation = Probation(publish.version, self.served[-1], publish.probation_tasks)
        if publish.version not in self.served[-1:]:
            self.served = [*self.served, publish.version][-_NUM_SERVED:]

    def roll_back(self, rollback: Rollback) -> None:
        """Take in that an old version's weights are served again, as a new version."""
        if rollback.to in self.served:
            del self.served[self.served.index(rollback.to) :]
        self.served.append(rollback.version)
        # What came after the version that is trusted again is not trusted to be the best either.
        if self.best >= rollback.to:
            self.best = rollback.version
        self.probation = None
        self.held_in_a_row = 0

    def _close_arrivals(self, outcome: Outcome, arrivals: Arrivals) -> None:
        is_contradiction = outcome.gate == "failed" and contradicts(outcome.checks)
        self.contradictions = self.contradictions + 1 if is_contradiction else 0
        is_suspicious = outcome.drift != "none"
        self.suspicions = self.suspicions + 1 if is_suspicious else 0
        if outcome.drift == "confirmed":
            self._usual.clear()
            self.onset, self.suspicions, self.contradictions = None, 0, 0
        elif is_suspicious or is_contradiction:
            self.onset = outcome.task if self.onset is None else self.onset
        else:
            self.onset = None
        if not is_suspicious:
            self._usual.append(arrivals)
        self._close_probation(arrivals)

    def _close_probation(self, arrivals: Arrivals) -> None:
        probation = self.probation
        if probation is None or arrivals.watched != probation.version:
            return
        left = probation.tasks_left - 1
        watched = replace(probation, tasks_left=left, counts=self.watch(arrivals))
        self.probation = watched if left > 0 else None


def contradicts(checks: Sequence[Check]) -> bool:
    """Tell whether only what is older speaks against a candidate that is surely better now."""
    failed = [check for check in checks if check.result == "failed"]
    is_better = any(
        (check.holdout, check.against) == ("newest", "current") and check.lower > 0
        for check in checks
    )
    return bool(failed) and is_better and all(check.holdout != "newest" for check in failed)
