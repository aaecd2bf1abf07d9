"""The deciding core: what follows from plan, instances and lineage, and from nothing else.

No journal, no clock, no thread: live, in recovery and in a replay the same calls give the same
weights and the same decision. What becomes durable, and when, is the caller's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.daemon.arrivals_reader import ArrivalsReader
from teacherd.daemon.base_holdout import BaseHoldout
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.decision import Decision, Measured, figures_of
from teacherd.daemon.drift_reader import DriftReader
from teacherd.daemon.entries import Arrivals, Outcome, Plan, Rollback
from teacherd.daemon.hearing import Hearing
from teacherd.daemon.holding_out import HoldingOut
from teacherd.daemon.holdouts import Holdouts
from teacherd.daemon.learner_building import Head, LearnerBuilding
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.paired_test import Answers
from teacherd.daemon.standing import where_held_out
from teacherd.daemon.version_networks import VersionNetworks
from teacherd.models.artifact import LoadedTeacher, Manifest, write_artifact
from teacherd.models.evaluation import Evaluation
from teacherd.models.learner import Learner
from teacherd.models.memory import Memory
from teacherd.models.provenance import Provenance
from teacherd.models.task import Schedule, Task
from teacherd.models.task_report import TaskReport


@dataclass(slots=True)
class _InProgress:
    """The task between `begin` and `close`."""

    plan: Plan
    newest_event_ms: int
    arrivals: Arrivals
    answers: dict[int, Answers] = field(default_factory=dict)
    """Of the candidate as decided, by the task of the holdout."""


class DecidingCore:
    """Owns learner, holdouts and gate; a task goes `begin`, `step`s, `decide`, `close`.

    Args:
        settings: In force for the next task.
        head: The version that the next task starts from.
        device: Where to compute.
        measurement: Of the evaluation sets; decides nothing.
        lineage: As the entries so far make it; each is applied before the core is told of it.
        load_version: Gives a version that the lineage pins.
        base: As configured; measured with while the settings in force name it.
        memory: What is learned again with each task; empty until `recall`.
        build_learner: Makes the learner; of several ranks the first has one that leads the others.
        on_progress: Called now and then in what may take longer than a step.
    """

    def __init__(
        self,
        settings: DecidingConfig,
        *,
        head: LoadedTeacher,
        device: torch.device,
        measurement: Measurement,
        lineage: Lineage,
        load_version: Callable[[int], LoadedTeacher],
        base: BaseHoldout | None = None,
        memory: Memory | None = None,
        build_learner: Callable[..., Learner] = Learner,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._template = head.manifest
        self._measurement = measurement
        self._lineage = lineage
        self._load_version = load_version
        self._on_progress = on_progress
        self._building = LearnerBuilding(
            head.manifest,
            device=device,
            build_learner=build_learner,
            on_batch=on_progress,
            memory=Memory() if memory is None else memory,
        )
        self._networks = VersionNetworks(
            lineage, load_version=load_version, head=lambda: self._learner.teacher
        )
        self.arrivals = ArrivalsReader(
            lineage,
            self._networks,
            preprocessing=head.manifest.design.preprocessing,
            device=device,
            on_progress=on_progress,
        )
        self._running: _InProgress | None = None
        self._base = base
        self.holdouts = Holdouts(
            network_of=self._networks.of,
            classes_of=lambda version: lineage.versions[version].classes,
            preprocessing=head.manifest.design.preprocessing,
            device=device,
            on_progress=on_progress,
        )
        self._take_settings(settings, Head.of(head.network, head.manifest))

    @property
    def settings(self) -> DecidingConfig:
        """The settings in force."""
        return self._settings

    @property
    def memory(self) -> Memory:
        """What is learned again with each task."""
        return self._building.memory

    @property
    def num_steps_done(self) -> int:
        """Optimizer steps made in the task in progress."""
        return self._learner.num_steps_done

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the task in progress, when it is finished."""
        return self._learner.num_steps

    def configure(self, settings: DecidingConfig) -> None:
        """Take other settings over, between two tasks."""
        learner = self._learner
        head = Head(learner.teacher, self._lineage.classes, learner.increments, learner.sigma)
        self._take_settings(settings, head)

    def recall(self, fill: Callable[[Memory], object]) -> None:
        """Let the memory be filled with what earlier tasks have left, between two tasks."""
        fill(self.memory)
        if len(self.memory):
            # Other ranks are told of it when a learner is built.
            self.configure(self._settings)

    def name_base(self, settings: DecidingConfig) -> DecidingConfig:
        """Return settings that say which base holdout they mean."""
        return replace(settings, base_holdout_sha256=self._base.sha256 if self._base else None)

    def begin(self, plan: Plan, task: BufferedTask) -> None:
        """Start a planned task that has instances to be learned."""
        learned = self.holding_out.take(plan.task, where_held_out(plan), task)
        schedule = Schedule(seed=plan.seed, epochs=plan.epochs, learning_rate=plan.learning_rate)
        head = self._lineage.classes
        labels = learned.labels_for(head + plan.new_classes)
        assert (labels >= 0).all(), "the plan defers what the head does not know"
        self._learner.begin(
            Task(
                number=plan.task,
                inputs=learned.inputs,
                labels=labels,
                num_new_classes=len(plan.new_classes),
            ),
            schedule,
        )
        # New classes are no drift: nobody could know them.
        known = learned.of_classes(head)
        correct = self._learner.before.correct[labels < len(head)]
        self.drift.read(plan.task, known, correct)
        self._running = _InProgress(
            plan=plan,
            newest_event_ms=int(learned.event_times_ms.max()),
            arrivals=self.arrivals.read(plan, known, correct),
        )

    def failed_probation(self) -> Outcome | None:
        """Return how to close the task just begun if it shows that the served version is worse.

        The version to be served again is in it; the task is not learned, but may be tried again.
        """
        standing, arrivals = self._lineage.standing, self._current.arrivals
        bound = standing.watch(arrivals).upper_bound(self._settings.gate.confidence)
        if standing.probation is None or bound >= -self._settings.gate.probation_allowance:
            return None
        return Outcome(
            task=self._current.plan.task,
            result="held",
            reasons=(standing.describe_failure(arrivals),),
            arrivals=arrivals,
            is_cut_short=True,
            rolls_back_to=standing.probation.predecessor,
        )

    def step(self) -> bool:
        """Make one optimizer step; return whether there are more.

        Raises:
            NonFiniteError: Before the step; `close` with what becomes of the task, or `discard`.
        """
        return self._learner.step()

    def decide(self, *, on_progress: Callable[[], None] = lambda: None) -> Decision:
        """Judge the candidate, after the last step; it is then as it may be written.

        Args:
            on_progress: Called now and then, because measuring may take longer than a step.

        Raises:
            NonFiniteError: Something is not finite that must be.
        """
        report = self._learner.finish()
        outcome = self._gated() if self._settings.gate.is_on else self._ungated(report)
        candidate, student = self._learner.candidate, self._learner.student
        classes = self._candidate_classes
        measured = self._measurement.measure(candidate, classes, on_batch=on_progress)
        student_accuracy = self._measurement.accuracy(student, classes, on_batch=on_progress)
        figures = figures_of(
            report,
            Measured(
                base=self._measurement.base,
                candidate={name: each.accuracy for name, each in measured.items()},
                student=student_accuracy,
                holdouts=self._current.answers,
            ),
            point=outcome.point,
            newest_event_ms=self._current.newest_event_ms,
        )
        return Decision(
            outcome=replace(outcome, figures=figures),
            report=report,
            student_accuracy=student_accuracy,
            evaluations={
                **self.holdouts.evaluate(candidate, classes),
                **measured,
            },
        )

    def follow(self, outcome: Outcome) -> None:
        """Instead of judging, take the point of an outcome that was decided elsewhere."""
        self._learner.move_candidate(outcome.point)

    def write_candidate(self, folder: Path, provenance: Provenance) -> Manifest:
        """Write the candidate as a version's folder."""
        increments = self._learner.increments
        design = replace(
            self._template.design,
            classes=self._candidate_classes,
            increments=increments if len(increments) > 1 else None,
            sigma=self._learner.sigma,
        )
        return write_artifact(folder, self._learner.candidate, design, provenance)

    def close(self, outcome: Outcome) -> None:
        """Let the task's outcome take effect: the candidate is the teacher, or never was."""
        running, self._running = self._running, None
        if running is not None and outcome.result == "accepted":
            self._networks.put(running.plan.head, self._learner.teacher)
            self._learner.accept()
            self._building.accepted(self._lineage.classes)
            self.holdouts.remember(outcome.version or 0, running.answers)
        elif running is not None:
            self._learner.discard()
        self.drift.forget()
        if outcome.head_returns:
            self._move_head(self._lineage.current or 0)
        self._forget()

    def roll_back(self, rollback: Rollback) -> None:
        """Go on from the version that a rollback made, between two tasks."""
        self.holdouts.rename(rollback.version, like=rollback.to)
        self._move_head(rollback.version)
        self._forget()

    def discard(self) -> None:
        """Forget the task in progress as if it had never begun; it may be begun anew."""
        self._learner.discard()
        self._running = None

    def measure(self, version: int) -> Mapping[str, Evaluation]:
        """Return how a version does, by evaluation set, and on `holdouts`; between two steps."""
        network, classes = self._networks.of(version), self._lineage.versions[version].classes
        measured = self._measurement.measure(network, classes, on_batch=self._on_progress)
        return {**self.holdouts.evaluate(network, classes), **measured}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state inside a task; resume by `begin` and `load_state_dict`."""
        return self._learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken; the task must have been begun.

        Raises:
            KeyError: It is no such state.
            ValueError: It is another task's or another network's.
        """
        self._learner.load_state_dict(state)

    @property
    def _current(self) -> _InProgress:
        assert self._running is not None, "no task is in progress"
        return self._running

    @property
    def _candidate_classes(self) -> tuple[str, ...]:
        return self._lineage.classes + self._current.plan.new_classes

    def _ungated(self, report: TaskReport) -> Outcome:
        return Outcome(
            task=report.task,
            result="accepted",
            should_publish=True,
            is_best=True,
            arrivals=self._current.arrivals,
        )

    def _gated(self) -> Outcome:
        """Let the gate rule, and move the candidate to the point that it found."""
        running = self._current
        outcome, running.answers = self._hearing.hear(
            running.plan, running.arrivals, self._learner.candidate_at
        )
        if outcome.result != "held":
            self._learner.move_candidate(outcome.point)
        return outcome

    def _move_head(self, version: int) -> None:
        """Start from another version than the one just learned."""
        head = self._load_version(version)
        self._take_settings(self._settings, Head.of(head.network, head.manifest))

    def _forget(self) -> None:
        """Let go of networks and answers that nothing will be compared with."""
        self._networks.forget()
        self.holdouts.keep(self._lineage.standing.holdouts, self._networks.compared)

    def _take_settings(self, settings: DecidingConfig, head: Head) -> None:
        self._settings = settings
        is_named = self._base is not None and self._base.sha256 == settings.base_holdout_sha256
        self.holdouts.put_base(self._base.holdout if self._base and is_named else None)
        self.holding_out = HoldingOut(settings.gate, lineage=self._lineage, holdouts=self.holdouts)
        self.drift = DriftReader(
            settings.drift,
            history=self._lineage.drift,
            embedder=self._measurement.embedder,
            on_progress=self._on_progress,
        )
        self._hearing = Hearing(
            settings.gate, lineage=self._lineage, holdouts=self.holdouts, drift=self.drift
        )
        self._learner = self._building.build(settings.learning, head)
