"""What a task begins with: a first look at it, a student that has grown, and what it must keep."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from teacherd.models.absent_classes import AbsentClasses, find_absent
from teacherd.models.backbone import BackboneConfig, NetworkFactory
from teacherd.models.batches import Batches
from teacherd.models.class_growth import ClassGrowth
from teacherd.models.consolidation import plan_consolidations
from teacherd.models.distillation import term_names
from teacherd.models.draws import Draws
from teacherd.models.first_look import FirstLook
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.mean_taking import MeanTaking
from teacherd.models.memory import Memory
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.ranks import Ranks
from teacherd.models.student import Student
from teacherd.models.task import Schedule, Task
from teacherd.models.task_in_progress import TaskInProgress
from teacherd.models.teacher_answers import TeacherAnswers


class TaskOpening:
    """Makes tasks ready for their first step; all arguments are as the learner has them.

    Args:
        placement: Where and how to compute.
        taking: Takes the mean embeddings of classes.
    """

    def __init__(
        self,
        config: LearnerConfig,
        *,
        preprocessing: Preprocessing,
        placement: Placement,
        ranks: Ranks,
        taking: MeanTaking,
        architecture: BackboneConfig | None,
        factory: NetworkFactory | None,
        on_batch: Callable[[], None],
    ) -> None:
        self._config = config
        self._preprocessing = preprocessing
        self._placement = placement
        self._ranks = ranks
        self._taking = taking
        self._on_batch = on_batch
        self._first_look = FirstLook(
            preprocessing,
            placement=placement,
            flip_share=config.distillation.flip_share,
            ranks=ranks,
            on_batch=on_batch,
        )
        self._growth = ClassGrowth(
            config.new_classes,
            temperature=config.distillation.temperature,
            architecture=architecture,
            factory=factory,
            preprocessing=preprocessing,
            device=placement.device,
            ranks=ranks,
            on_batch=on_batch,
        )

    def open(
        self,
        teacher: nn.Module,
        task: Task,
        schedule: Schedule,
        *,
        sigma: float | None,
        increments: tuple[int, ...],
        memory: Memory,
    ) -> TaskInProgress:
        """Return a task before its first step; student and candidate are copies of the teacher.

        Measures the outer share and, where the dust has no strength yet, calibrates it.

        Args:
            teacher: Of the tasks before; stays as it is.
            task: What is to be learned.
            schedule: How.
            sigma: Standard deviation of the dust; None where it was not calibrated yet.
            increments: Classes of each increment so far; empty: all of the teacher's at once.
            memory: What is learned again with the task.

        Raises:
            ValueError: A label is none of the teacher's classes nor of the new ones, a new class
                has no instance, the network cannot grow, or the inputs are of another form than
                the teacher takes.
        """
        draws = Draws(seed=schedule.seed, task=task.number)
        before = self._first_look.measure(teacher, task)
        num_old = len(before.per_class_accuracy) - task.num_new_classes
        learned = increments or (num_old,)
        batches = self._build_batches(task, draws, memory, num_old)
        network = self._growth.build_student(teacher, task, num_old, draws)
        absent = self._find_absent(teacher, network, batches, task, num_old)
        old = self._growth.old_classes(
            teacher,
            task,
            learned,
            num_old=num_old,
            present=batches.classes | (absent.classes if absent else frozenset()),
        )
        candidate = copy.deepcopy(teacher)
        asked = teacher if task.num_new_classes else candidate
        return TaskInProgress(
            task=task,
            schedule=schedule,
            draws=draws,
            batches=batches,
            student=self._build_student(network, schedule, absent),
            candidate=candidate,
            teacher=asked,
            answers=self._build_answers(asked, batches),
            old=old,
            absent=absent,
            consolidations=plan_consolidations(
                self._config.consolidation,
                epochs=schedule.epochs,
                num_instances=len(task.labels),
                has_new_classes=task.num_new_classes > 0,
            ),
            before=before,
            sigma=self._choose_sigma(sigma, teacher, batches, draws),
            sigma_before=sigma,
            increments=(*learned, task.num_new_classes) if task.num_new_classes else learned,
            increments_before=increments,
            loss_sums=torch.zeros(
                len(term_names(self._config.distillation, old)),
                dtype=torch.float64,
                device=self._placement.device,
            ),
        )

    def _build_batches(self, task: Task, draws: Draws, memory: Memory, num_old: int) -> Batches:
        return Batches(
            task,
            batch_size=self._config.batch_size,
            augmentation=self._config.augmentation,
            preprocessing=self._preprocessing,
            draws=draws,
            placement=self._placement,
            ranks=self._ranks,
            rehearsed=memory.rehearse(self._config.memory, num_classes=num_old),
        )

    def _find_absent(
        self, teacher: nn.Module, student: nn.Module, batches: Batches, task: Task, num_old: int
    ) -> AbsentClasses | None:
        if not (self._config.new_classes.means and task.num_new_classes):
            return None
        return find_absent(teacher, student, batches, num_old=num_old, taking=self._taking)

    def _build_student(
        self, network: nn.Module, schedule: Schedule, absent: AbsentClasses | None
    ) -> Student:
        return Student(
            self._config.optimizer,
            network=network,
            batch_norm=self._config.batch_norm,
            learning_rate=schedule.learning_rate,
            trained=None if absent is None else absent.head,
        )

    def _build_answers(self, asked: nn.Module, batches: Batches) -> TeacherAnswers:
        return TeacherAnswers(
            asked,
            batches=batches,
            placement=self._placement,
            ranks=self._ranks,
            on_batch=self._on_batch,
        )

    def _choose_sigma(
        self, sigma: float | None, teacher: nn.Module, batches: Batches, draws: Draws
    ) -> float | None:
        if sigma is not None or not self._config.distillation.needs_sigma:
            return sigma
        return self._first_look.calibrate(teacher, batches, draws)
