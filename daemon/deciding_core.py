"""The deciding core: what follows from plan, instances and settings, and from nothing else.

No journal, no clock, no thread: live, in recovery and in a replay the same calls give the same
weights and the same decision. What becomes durable, and when, is the caller's business.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.entries import Outcome, Plan
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.verdict import decide
from teacherd.models.artifact import LoadedTeacher, Manifest, write_artifact
from teacherd.models.learner import Learner, TaskReport
from teacherd.models.provenance import Provenance
from teacherd.models.task import Schedule, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is to become of a learned task; nothing of it has happened yet."""

    outcome: Outcome
    """Without version and sha256, which an accepted one gets from its folder."""
    report: TaskReport
    student_accuracy: Mapping[str, float]
    """By evaluation set."""


class DecidingCore:
    """Owns learner and gate; a task goes `begin`, `step`s, `decide`, `close`.

    Args:
        settings: In force for the next task.
        head: The version that the next task starts from.
        device: Where to compute.
        measurement: Of the evaluation sets; decides nothing.
        on_progress: Called now and then while a task is begun, or a step asks about all of it.
    """

    def __init__(
        self,
        settings: DecidingConfig,
        *,
        head: LoadedTeacher,
        device: torch.device,
        measurement: Measurement,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._template = head.manifest
        self._device = device
        self._measurement = measurement
        self._on_progress = on_progress
        self._head_sigma = head.manifest.design.sigma
        self._is_busy = False
        self._newest_event_ms = 0
        self._take_settings(settings, head.network)

    @property
    def settings(self) -> DecidingConfig:
        """The settings in force."""
        return self._settings

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
        self._take_settings(settings, self._learner.teacher)

    def begin(self, plan: Plan, task: BufferedTask) -> None:
        """Start a planned task that has instances."""
        self._is_busy = True
        self._newest_event_ms = int(task.event_times_ms.max())
        schedule = Schedule(seed=plan.seed, epochs=plan.epochs, learning_rate=plan.learning_rate)
        self._learner.begin(
            Task(number=plan.task, inputs=task.inputs, labels=task.labels), schedule
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
        """
        report = self._learner.finish()
        on_progress()
        measure = functools.partial(self._measurement.accuracy, on_batch=on_progress)
        accuracy = measure(self._learner.candidate)
        student_accuracy = measure(self._learner.student)
        verdict = decide(self._learner.candidate)
        outcome = Outcome(
            task=report.task,
            result=verdict.result,
            reasons=verdict.reasons,
            should_publish=verdict.should_publish,
            figures=self._figures(report, accuracy, student_accuracy),
        )
        return Decision(outcome=outcome, report=report, student_accuracy=student_accuracy)

    def write_candidate(self, folder: Path, provenance: Provenance) -> Manifest:
        """Write the candidate as a version's folder."""
        design = replace(self._template.design, sigma=self._learner.sigma)
        return write_artifact(folder, self._learner.candidate, design, provenance)

    def close(self, outcome: Outcome) -> None:
        """Let the task's outcome take effect: the candidate is the teacher, or never was."""
        if outcome.result == "accepted":
            self._learner.accept()
            self._head_sigma = self._learner.sigma
        elif self._is_busy:
            self._learner.discard()
        self._is_busy = False

    def discard(self) -> None:
        """Forget the task in progress as if it had never begun; it may be begun anew."""
        self._learner.discard()
        self._is_busy = False

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

    def _take_settings(self, settings: DecidingConfig, teacher: nn.Module) -> None:
        self._settings = settings
        self._learner = Learner(
            settings.learning,
            teacher=teacher,
            preprocessing=self._template.design.preprocessing,
            sigma=self._head_sigma,
            device=self._device,
            on_batch=self._on_progress,
        )

    def _figures(
        self,
        report: TaskReport,
        accuracy: Mapping[str, float],
        student_accuracy: Mapping[str, float],
    ) -> dict[str, float]:
        base = self._measurement.base
        figures = {
            "outer_ratio": report.outer_share,
            "retain": report.retain,
            "newest_event_ms": float(self._newest_event_ms),
        }
        figures |= {f"loss.{name}": value for name, value in report.losses.items()}
        figures |= {f"accuracy.{name}": value for name, value in accuracy.items()}
        figures |= {f"student_accuracy.{name}": value for name, value in student_accuracy.items()}
        figures |= {f"forgetting.{name}": base[name] - value for name, value in accuracy.items()}
        return figures
