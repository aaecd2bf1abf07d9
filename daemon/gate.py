"""The gate: whether a candidate may be served, from how it answers what nobody was trained on.

Knows answers, not networks: docs/gate.md has the rules in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from teacherd.daemon.entries import Check, GateResult
from teacherd.daemon.paired_test import Answers, PairedCounts

NEW_CLASSES = "new"
"""Name of the check on classes that the served version does not know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """What a candidate has to show before it is served."""

    holdout_share: float = 0.05
    """Share of the stream that is never trained on, by a hash; 0 holds nothing out."""
    holdout_instances: int = 200
    """Instances kept of one task's holdout, as many of each class as there are."""
    holdout_tasks: int = 20
    """A holdout is measured with for so many tasks, and then makes room."""
    holdout_bytes: int = 64 << 20
    """Memory that all kept holdouts may take, a task's its part; so much a checkpoint refers to."""
    base_holdout: str | None = None
    """An .npz of `inputs` and `labels` as in evaluation.sets: what the base model must not unlearn;
    null has none. Without it and with a share of 0 there is no gate: all that is finite passes."""
    base_instances: int = 2000
    """Instances taken of it, evenly; more cost time at every task."""
    pool_instances: int = 400
    """The newest holdout is filled up with older ones to so many, to see small differences."""
    allowance: float = 0.02
    """A candidate may be this much worse than the served version, and than the best so far."""
    forgetting: float = 0.02
    """The same on earlier holdouts and on the base holdout."""
    class_allowance: float = 0.2
    """No class may surely lose more than this."""
    new_class_accuracy: float = 0.2
    """Share that a candidate must get right of the classes that the served version does not know:
    they are compared with nothing, and hide nothing of the others."""
    confidence: float = 0.95
    """Of each bound, one-sided."""
    grid: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    """Points tried on the way from the head to the consolidated teacher; the furthest that passes
    is taken (method.md 3)."""
    max_held: int = 3
    """After so many held tasks in a row the head returns to the served version."""
    drift_excess: float = 0.05
    """A task that the head gets wrong by this much more than those before is a suspected drift."""
    probation_tasks: int = 3
    """A newly served version is compared with the one before it for so many tasks; 0 does not."""
    probation_allowance: float = 0.02
    """It may be this much worse on what arrives, else the one before is served again."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name, usual in (
            ("allowance", 0.02),
            ("forgetting", 0.02),
            ("class_allowance", 0.2),
            ("new_class_accuracy", 0.2),
            ("drift_excess", 0.05),
            ("probation_allowance", 0.02),
        ):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)}: must be above 0 and below 1; take {usual}"
                )
        for name, usual in (
            ("holdout_instances", 200),
            ("holdout_tasks", 20),
            ("holdout_bytes", 64 << 20),
            ("base_instances", 2000),
            ("pool_instances", 400),
            ("max_held", 3),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}: must be at least 1; take {usual}")
        if not 0 <= self.holdout_share <= 0.5:  # noqa: PLR2004 (a half is for learning)
            raise ValueError(
                f"holdout_share: {self.holdout_share}: must be from 0 to 0.5; take 0.05"
            )
        if not 0.5 < self.confidence < 1:  # noqa: PLR2004 (below a half a bound is none)
            raise ValueError(
                f"confidence: {self.confidence}: must be above 0.5 and below 1; take 0.95"
            )
        if self.probation_tasks < 0:
            raise ValueError(f"probation_tasks: {self.probation_tasks}: is negative; take 3")
        is_falling = all(high > low for high, low in zip(self.grid, self.grid[1:], strict=False))
        if not self.grid or not is_falling or not 0 < self.grid[-1] <= self.grid[0] <= 1:
            raise ValueError(
                f"grid: {list(self.grid)}: must fall from at most 1 to above 0; "
                "take [1.0, 0.75, 0.5, 0.25]"
            )

    @property
    def is_on(self) -> bool:
        """Whether there is anything to measure with."""
        return self.holdout_share > 0 or self.base_holdout is not None


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """One holdout, as it was answered."""

    task: int
    """Whose holdout it is; 0 for the base holdout."""
    labels: npt.NDArray[np.int64]
    """Places among the candidate's classes; -1 for one that it does not know."""
    candidate: Answers
    current: Answers
    """Of the served version."""
    best: Answers | None
    """Of the best version so far; None if that is the served one."""
    known_to_current: npt.NDArray[np.bool_] | None = None
    """Whether it and the candidate know the class of each instance; None: of all of them."""
    known_to_best: npt.NDArray[np.bool_] | None = None

    def against(self, reference: Literal["current", "best"]) -> PairedCounts:
        """Compare the candidate with one of the others, on the classes that both know."""
        if reference == "best" and self.best is not None:
            other, known = self.best, self.known_to_best
        else:
            other, known = self.current, self.known_to_current
        if known is None:
            return PairedCounts.of(self.candidate, other)
        return PairedCounts.of(self.candidate[known], other[known])

    @property
    def new_classes(self) -> PairedCounts:
        """How the candidate does on classes that the served version cannot know."""
        if self.known_to_current is None:
            return PairedCounts()
        is_new = (self.labels >= 0) & ~self.known_to_current
        return PairedCounts(int(is_new.sum()), int(self.candidate[is_new].sum()), 0)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that a candidate was measured with."""

    newest: Exam | None
    """Of the task that it has just learned."""
    earlier: tuple[Exam, ...] = ()
    """Of the tasks before, the newest first."""
    base: Exam | None = None

    @property
    def stream(self) -> tuple[Exam, ...]:
        """Those of the stream, the newest first."""
        return (self.newest, *self.earlier) if self.newest else self.earlier

    @property
    def has_best(self) -> bool:
        """Whether the best version is another than the served one."""
        exams = (*self.stream, self.base) if self.base else self.stream
        return any(exam.best is not None for exam in exams)

    @property
    def has_new_classes(self) -> bool:
        """Whether the candidate knows classes that the served version does not."""
        return any(exam.new_classes.num for exam in self.stream)

    def without(self, tasks: Sequence[int], *, base: bool) -> "Evidence":
        """Leave some holdouts out."""
        earlier = tuple(exam for exam in self.earlier if exam.task not in tasks)
        return replace(self, earlier=earlier, base=None if base else self.base)

    def counts(self, reference: Literal["current", "best"]) -> PairedCounts:
        """Compare on all of the stream's, or without any on the base holdout."""
        exams = self.stream or ((self.base,) if self.base else ())
        return _sum(exams, reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the gate says of a candidate."""

    result: GateResult
    checks: tuple[Check, ...]

    @property
    def is_better(self) -> bool:
        """Whether it is surely better than the served version on what arrives now."""
        return any(
            check.holdout in {"newest", NEW_CLASSES}
            and check.against == "current"
            and check.lower > 0
            for check in self.checks
        )

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.result == "failed")


class Gate:
    """Judges candidates by their answers.

    Args:
        classes: Names, in the order of the labels.
    """

    def __init__(self, config: GateConfig, classes: Sequence[str]) -> None:
        self._config = config
        self._classes = classes

    def judge(self, evidence: Evidence, *, pool_from: int = 0) -> Verdict:
        """Compare a candidate with the served version and with the best so far.

        Args:
            evidence: What all of them answered.
            pool_from: Holdouts of tasks before are of another world: the newest is not filled up
                with them.
        """
        parts = {
            "newest": (self._pooled(evidence, pool_from), self._config.allowance),
            "earlier": (evidence.earlier, self._config.forgetting),
            "base": ((evidence.base,) if evidence.base else (), self._config.forgetting),
        }
        references: tuple[Literal["current", "best"], ...] = ("current",)
        if evidence.has_best:
            references = ("current", "best")
        checks = [
            self._check(name, reference, counts, allowance)
            for name, (exams, allowance) in parts.items()
            for reference in references
            if (counts := _sum(exams, reference)).num
        ]
        new = sum((exam.new_classes for exam in evidence.stream), start=PairedCounts())
        if new.num:
            # Nobody did better before: what counts is that they were learned at all.
            floor = self._config.new_class_accuracy
            checks.append(self._check(NEW_CLASSES, "current", new, -floor))
        checks += self._failing_classes(evidence)
        return Verdict(result=_result(checks), checks=tuple(checks))

    def is_surely_better(self, evidence: Evidence, reference: Literal["current", "best"]) -> bool:
        """Tell whether the candidate is better on everything that is held out."""
        return evidence.counts(reference).lower_bound(self._config.confidence) > 0

    def _pooled(self, evidence: Evidence, pool_from: int) -> tuple[Exam, ...]:
        """Return the newest holdout, filled up with older ones until there are enough."""
        pooled: list[Exam] = []
        for exam in evidence.stream:
            if _sum(pooled, "current").num >= self._config.pool_instances:
                break
            if exam is evidence.newest or exam.task >= pool_from:
                pooled.append(exam)
        return tuple(pooled)

    def _check(
        self,
        name: str,
        reference: Literal["current", "best"],
        counts: PairedCounts,
        allowance: float,
        *,
        confidence: float | None = None,
    ) -> Check:
        """Word one comparison; within the bounds' reach of the allowance nothing is decided."""
        confidence = confidence or self._config.confidence
        lower, upper = counts.lower_bound(confidence), counts.upper_bound(confidence)
        result: GateResult = "undecided"
        if lower > -allowance:
            result = "passed"
        elif upper < -allowance:
            result = "failed"
        return Check(
            holdout=name,
            against=reference,
            num=counts.num,
            won=counts.won,
            lost=counts.lost,
            lower=round(lower, 6),
            upper=round(upper, 6),
            allowance=allowance,
            result=result,
        )

    def _failing_classes(self, evidence: Evidence) -> list[Check]:
        """Return a check for each class that surely loses too much, and for no other.

        There are many classes: the confidence of each is raised by Bonferroni's correction.
        """
        exams = (*evidence.stream, evidence.base) if evidence.base else evidence.stream
        if not exams:
            return []
        # A class that only one of the two knows is compared nowhere.
        labels = np.concatenate(
            [
                exam.labels
                if exam.known_to_current is None
                else np.where(exam.known_to_current, exam.labels, -1)
                for exam in exams
            ]
        )
        candidate = np.concatenate([exam.candidate for exam in exams])
        current = np.concatenate([exam.current for exam in exams])
        confidence = 1 - (1 - self._config.confidence) / len(self._classes)
        checks = []
        for label in np.unique(labels[current & ~candidate & (labels >= 0)]).tolist():
            of_class = labels == label
            counts = PairedCounts.of(candidate[of_class], current[of_class])
            check = self._check(
                f"class {self._classes[label]}",
                "current",
                counts,
                self._config.class_allowance,
                confidence=confidence,
            )
            checks += [check] if check.result == "failed" else []
        return checks


def _sum(exams: Sequence[Exam], reference: Literal["current", "best"]) -> PairedCounts:
    return sum((exam.against(reference) for exam in exams), start=PairedCounts())


def _result(checks: Sequence[Check]) -> GateResult:
    """Combine: one that fails fails all; what is not decided may pass if the gain is sure."""
    if any(check.result == "failed" for check in checks):
        return "failed"
    open_ones = [check for check in checks if check.result == "undecided"]
    if checks and not open_ones:
        return "passed"
    is_better = Verdict(result="undecided", checks=tuple(checks)).is_better
    is_within = all((each.won - each.lost) / each.num >= -each.allowance for each in open_ones)
    return "passed" if is_better and is_within else "undecided"
