"""The state of a task while it is learned; the learner owns and moves it."""

from dataclasses import dataclass

from torch import Tensor, nn

from teacherd.models.batches import Batches
from teacherd.models.consolidation import ConsolidationPlan
from teacherd.models.draws import Draws
from teacherd.models.evaluation import Evaluation
from teacherd.models.student import Student
from teacherd.models.task import Schedule, Task
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
    """The teacher as consolidated so far, in eval mode."""
    answers: TeacherAnswers
    """The candidate's."""
    consolidations: ConsolidationPlan
    before: Evaluation
    """Of the teacher on the task, before the first step."""
    sigma_before: float | None
    """What the learner goes back to when the task is discarded."""
    loss_sums: Tensor
    """Sum over the instances of the epoch so far of each loss term, in float64."""
    step: int = 0
    """Optimizer steps made."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole task."""
        return self.schedule.epochs * self.batches.num_steps_per_epoch
