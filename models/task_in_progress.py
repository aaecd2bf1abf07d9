"""The state of a task while it is learned; the learner owns and moves it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from teacherd.models.batches import Batches
from teacherd.models.consolidation import (
    ConsolidationPlan,
    consolidate_after_epoch,
    retained_share,
)
from teacherd.models.draws import Draws
from teacherd.models.evaluation import Evaluation
from teacherd.models.head_growth import widened
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
    consolidations: ConsolidationPlan
    before: Evaluation
    """Of the teacher on the task, before the first step."""
    sigma_before: float | None
    """What the learner goes back to when the task is discarded."""
    increments_before: tuple[int, ...]
    """The same."""
    loss_sums: Tensor
    """Sum over the instances of the epoch so far of each loss term, in float64."""
    step: int = 0
    """Optimizer steps made."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole task."""
        return self.schedule.epochs * self.batches.num_steps_per_epoch

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
