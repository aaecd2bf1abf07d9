"""The state of a task while it is learned; the learner owns and moves it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from teacherd.models.absent_classes import AbsentClasses
from teacherd.models.batches import Batches
from teacherd.models.consolidation import (
    ConsolidationPlan,
    consolidate_after_epoch,
    retained_share,
)
from teacherd.models.draws import Draws
from teacherd.models.evaluation import Evaluation
from teacherd.models.head_growth import widened
from teacherd.models.module_tensors import (
    load_module_tensors,
    module_tensors,
    snapshot,
    with_prefix,
)
from teacherd.models.old_classes import OldClasses
from teacherd.models.student import Student
from teacherd.models.task import Schedule, Task
from teacherd.models.task_report import TaskReport
from teacherd.models.teacher_answers import TeacherAnswers


@dataclass(slots=True, kw_only=True)
class TaskInProgress:
    """What there is between the beginning of a task and its acceptance or discarding."""

    task: Task
    schedule: Schedule
    draws: Draws
    batches: Batches
    student: Student
    candidate: nn.Module
    """The teacher as consolidated so far, in eval mode; of the old classes alone until the first
    consolidation."""
    teacher: nn.Module
    """Who is asked, in eval mode: the candidate, or, while new classes are learned, the teacher
    before the task, which y of method.md, 5 is."""
    answers: TeacherAnswers
    """Its answers."""
    old: OldClasses | None
    """What is to be kept; None for one increment and nothing new: then it is one softmax."""
    absent: AbsentClasses | None
    """Those of them that are learned again without instances; None for none."""
    consolidations: ConsolidationPlan
    before: Evaluation
    """Of the teacher on the task, before the first step."""
    sigma: float | None
    """Standard deviation of the dust; None where it is not needed."""
    sigma_before: float | None
    """What the learner goes back to when the task is discarded."""
    increments: tuple[int, ...]
    """Classes of each increment, those of the task included."""
    increments_before: tuple[int, ...]
    """As `sigma_before`."""
    loss_sums: Tensor
    """Sum over the instances of the epoch so far of each loss term, in float64."""
    step: int = 0
    """Optimizer steps made."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole task."""
        return self.schedule.epochs * self.batches.num_steps_per_epoch

    def advance(self, terms: Mapping[str, Tensor]) -> None:
        """Take note of an optimizer step; consolidate when that is due.

        Args:
            terms: Loss terms of its batch, means over the instances.
        """
        epoch, place = divmod(self.step, self.batches.num_steps_per_epoch)
        if place == 0:
            self.loss_sums.zero_()
        num_instances = self.batches.num_of_task(self.step)
        self.loss_sums += torch.stack(list(terms.values())).detach() * num_instances
        self.step += 1
        is_end = place + 1 == self.batches.num_steps_per_epoch
        if is_end and epoch + 1 in self.consolidations.epochs:
            self.consolidate(epoch + 1)

    def consolidate(self, epoch: int) -> None:
        """Move the candidate towards the student after an epoch, counted from 1, that is due."""
        if epoch == self.consolidations.epochs[0]:
            self.widen_candidate()
        consolidate_after_epoch(
            epoch,
            self.consolidations,
            teacher=self.candidate,
            student=self.student.network,
            draws=self.draws,
        )
        if self.teacher is self.candidate:
            self.answers.forget()

    def widen_candidate(self) -> None:
        """Give the candidate the student's rows for new classes, where there are any."""
        if self.task.num_new_classes:
            self.candidate = widened(self.candidate, like=self.student.network)

    def report(self, names: Sequence[str], *, sigma: float | None) -> TaskReport:
        """Return what the task came to, after its last step.

        Args:
            names: Of the loss terms.
            sigma: Of the dust.
        """
        means = (self.loss_sums / self.batches.num_instances).tolist()
        sizes = [parameter.numel() for parameter in self.candidate.parameters()]
        return TaskReport(
            task=self.task.number,
            num_instances=self.batches.num_instances,
            num_steps=self.step,
            num_epochs=self.schedule.epochs,
            outer_share=1 - self.before.accuracy,
            losses=dict(zip(names, means, strict=True)),
            num_consolidations=len(self.consolidations.epochs),
            retain=retained_share(self.consolidations, sizes=sizes, draws=self.draws),
            sigma=sigma,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return student, candidate and progress as flat tensors on the CPU."""
        return {
            **self.student.state_dict(),
            **snapshot(module_tensors(self.candidate), prefix="candidate"),
            "loss_sums": self.loss_sums.to("cpu", copy=True),
            "progress": torch.tensor([self.task.number, self.step, self.num_steps]),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: The state is another task's or another network's.
        """
        number, step, num_steps = state["progress"].tolist()
        if (number, num_steps) != (self.task.number, self.num_steps):
            raise ValueError(
                f"progress: the state is of task {number} with {num_steps} steps, begun was task "
                f"{self.task.number} with {self.num_steps}; begin the same"
            )
        self.student.load_state_dict(state)
        if step >= self.consolidations.epochs[0] * self.batches.num_steps_per_epoch:
            self.widen_candidate()
        load_module_tensors(self.candidate, with_prefix(state, "candidate"))
        self.answers.forget()
        self.loss_sums = state["loss_sums"].to(self.loss_sums.device, copy=True)
        self.step = step
