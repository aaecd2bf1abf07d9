"""A lineage without networks: versions are accuracies, holdouts are numbers between 0 and 1.

An instance is answered rightly if its number lies below the version's accuracy on its concept, but
for a little noise of each version's own: so two versions of the same accuracy still disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from teacherd.daemon.deliberation import Deliberation, Ruling
from teacherd.daemon.entries import Arrivals, ClosedRange, Outcome, Plan, Publish
from teacherd.daemon.gate import Evidence, Exam, GateConfig
from teacherd.daemon.paired_test import Answers
from teacherd.daemon.standing import Standing

Accuracy = Callable[[int], float]
"""Of a version, by the task whose instances it answers; 0 is the base holdout."""

NOISE = 0.04


@dataclass(frozen=True, slots=True)
class Version:
    """What a version can do, and what makes it err otherwise than another one."""

    accuracy: Accuracy
    seed: int


@dataclass(slots=True)
class SimulatedLineage:
    """Takes tasks through the gate as the deciding core does."""

    config: GateConfig
    start: Accuracy
    task_instances: int = 1000
    base_instances: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    standing: Standing = field(default_factory=Standing)
    versions: dict[int, Version] = field(default_factory=dict)
    rulings: list[Ruling] = field(default_factory=list)
    head: int = 0
    current: int = 0
    num_tasks: int = 0
    _numbers: dict[int, np.ndarray] = field(default_factory=dict)
    _known: dict[tuple[int, int], Answers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions[0] = Version(self.start, 0)
        self._numbers[0] = self.rng.random(self.base_instances)
        self._publish(0)

    @property
    def num_published(self) -> int:
        """Versions served, the first one included."""
        return len(self.standing.served)

    def learn(
        self,
        learned: Callable[[Accuracy], Callable[[float], Accuracy]],
        *,
        alarm: int | None = None,
    ) -> Ruling:
        """Take one task: from the head's accuracy to that at a point of the way to the candidate's.

        Args:
            learned: Makes of the head's accuracy that at any point.
            alarm: As `Deliberation.rule` takes it.

        Returns:
            What was decided.
        """
        self.num_tasks = task = self.num_tasks + 1
        self._plan(task)
        head = self.versions[self.head]
        wrong = self.rng.binomial(self.task_instances, 1 - head.accuracy(task))
        arrivals = Arrivals(num=self.task_instances, wrong=int(wrong))
        at_point = learned(head.accuracy)
        seed = 1000 + task
        ruling = Deliberation(self.config, ("a", "b")).rule(
            self.standing,
            task=task,
            arrivals=arrivals,
            alarm=alarm,
            is_head_current=self.head == self.current,
            evidence_at=lambda point: self._evidence(Version(at_point(point), seed), task),
        )
        self._close(task, ruling, arrivals, Version(at_point(ruling.point), seed))
        self.rulings.append(ruling)
        return ruling

    def accuracy_of(self, version: int, task: int) -> float:
        """Return the true accuracy of a version on the instances of a task."""
        return self.versions[version].accuracy(task)

    def _plan(self, task: int) -> None:
        size = int(self.task_instances * self.config.holdout_share)
        self._numbers[task] = self.rng.random(size)
        holdouts = self.standing.holdouts_for(task, num_tasks=self.config.holdout_tasks)
        closed = ClosedRange(
            topic="t", partition=0, start=0, end=1, count=1, digest="d", held_out=(0,)
        )
        self.standing.plan(
            Plan(
                task=task,
                cause="count",
                head=self.head,
                seed=0,
                epochs=1,
                learning_rate=0.1,
                num_instances=self.task_instances,
                ranges=(closed,) if size else (),
                holdouts=holdouts,
            )
        )

    def _close(self, task: int, ruling: Ruling, arrivals: Arrivals, candidate: Version) -> None:
        is_accepted = ruling.verdict.result != "failed"
        version = max(self.versions) + 1
        if is_accepted:
            self.versions[version] = candidate
            self.head = version
        elif ruling.head_returns:
            self.head = self.current
        self.standing.close(
            Outcome(
                task=task,
                result="accepted" if is_accepted else "held",
                version=version if is_accepted else None,
                gate=ruling.verdict.result,
                checks=ruling.verdict.checks,
                is_best=ruling.is_best,
                arrivals=arrivals,
                drift=ruling.drift,
                retired=ruling.retired,
                is_base_retired=ruling.is_base_retired,
                head_returns=ruling.head_returns,
            ),
            is_newest=True,
        )
        if ruling.verdict.result == "passed":
            self._publish(version)

    def _publish(self, version: int) -> None:
        self.current = version
        self.standing.publish(Publish(version=version))

    def _evidence(self, candidate: Version, task: int) -> Evidence:
        tasks = sorted((each for each in self.standing.holdouts if each < task), reverse=True)
        has_base = self.base_instances > 0 and not self.standing.is_base_retired
        return Evidence(
            newest=self._exam(candidate, task) if task in self.standing.holdouts else None,
            earlier=tuple(self._exam(candidate, each) for each in tasks),
            base=self._exam(candidate, 0) if has_base else None,
        )

    def _exam(self, candidate: Version, task: int) -> Exam:
        best = self.standing.best
        return Exam(
            task=task,
            labels=np.arange(len(self._numbers[task])) % 2,
            candidate=self._answers(candidate, task),
            current=self._answers(self.versions[self.current], task),
            best=None if best == self.current else self._answers(self.versions[best], task),
        )

    def _answers(self, version: Version, task: int) -> Answers:
        known = self._known.get((version.seed, task))
        if known is not None:
            return known
        numbers = self._numbers[task]
        noise = np.random.default_rng((version.seed, task)).normal(0, NOISE, len(numbers))
        answers = numbers + noise < version.accuracy(task)
        if any(version is each for each in self.versions.values()):
            self._known[version.seed, task] = answers
        return answers
