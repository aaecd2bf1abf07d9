"""What a task with new classes begins with: a student that has grown, and what it must keep."""

import copy
import functools
from collections.abc import Callable, Collection

import torch
from torch import nn

from teacherd.models.backbone import BackboneConfig, NetworkFactory
from teacherd.models.class_similarity import class_similarity
from teacherd.models.draws import Draws
from teacherd.models.head_growth import grow_head
from teacherd.models.old_classes import NewClassesConfig, OldClasses
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.ranks import ALONE, Ranks
from teacherd.models.task import Task
from teacherd.models.task_pool import TaskPool


class ClassGrowth:
    """Lets teachers of one architecture grow (method.md, 5).

    Args:
        config: How old classes are kept.
        temperature: Of the distillation.
        architecture: What teachers are built from; None lets none grow.
        factory: Called in place of what the architecture's name says.
        preprocessing: Of raw inputs.
        device: Where to compute.
        ranks: Those that learn together.
        on_batch: Called after each forward pass.
    """

    def __init__(
        self,
        config: NewClassesConfig,
        *,
        temperature: float,
        architecture: BackboneConfig | None,
        factory: NetworkFactory | None,
        preprocessing: Preprocessing,
        device: torch.device,
        ranks: Ranks = ALONE,
        on_batch: Callable[[], None],
    ) -> None:
        self._config = config
        self._temperature = temperature
        self._architecture = architecture
        self._factory = factory
        self._preprocessing = preprocessing
        self._device = device
        self._ranks = ranks
        self._on_batch = on_batch

    def build_student(
        self, teacher: nn.Module, task: Task, num_old: int, draws: Draws
    ) -> nn.Module:
        """Return a copy of the teacher, with rows for the task's new classes.

        Args:
            teacher: Of the old classes; is left as it is.
            task: What is to be learned.
            num_old: Classes of the teacher.
            draws: Of the task; the new rows are a function of them.

        Raises:
            ValueError: It cannot grow, or a new class has no instance.
        """
        num_new = task.num_new_classes
        if num_new == 0:
            return copy.deepcopy(teacher)
        missing = set(range(num_old, num_old + num_new)) - set(task.labels.tolist())
        if missing:
            raise ValueError(
                f"labels: class {min(missing)} is new and has no instance; leave it out"
            )
        if self._architecture is None:
            raise ValueError(
                "architecture: None: a network can only grow if it can be built; give what the "
                "teacher was built from"
            )
        return grow_head(
            teacher,
            self._architecture,
            num_classes=num_old,
            num_new=num_new,
            seed=draws.key("head"),
            factory=self._factory,
        )

    def old_classes(
        self,
        teacher: nn.Module,
        task: Task,
        increments: tuple[int, ...],
        *,
        num_old: int,
        present: Collection[int],
    ) -> OldClasses | None:
        """Return what the task must keep; None where one softmax over all classes says it.

        Args:
            teacher: Of the old classes.
            task: What is to be learned.
            increments: How many of the old classes each increment brought.
            num_old: Classes of the teacher.
            present: Classes that there are instances of, in the task or the memory.

        Raises:
            ValueError: The increments are another teacher's.
        """
        num_new = task.num_new_classes
        if sum(increments) != num_old:
            raise ValueError(
                f"increments: {list(increments)}: are {sum(increments)} classes, the teacher has "
                f"{num_old}; give those of its version"
            )
        if num_new == 0 and len(increments) == 1:
            return None
        similarity = 0.0
        if num_new and self._config.weighting == "adaptive":
            # Rank 0's, as the strength of the dust is.
            similarity = self._ranks.from_first(
                functools.partial(self._similarity, teacher, task, num_old)
            )
        return OldClasses(
            self._config,
            pool=TaskPool(increments, kind=self._config.pool),
            num_new=num_new,
            present=present,
            similarity=similarity,
            temperature=self._temperature,
            device=self._device,
        )

    def _similarity(
        self, teacher: nn.Module, task: Task, num_old: int, on_wait: Callable[[], object]
    ) -> float:
        def on_batch() -> None:
            self._on_batch()
            on_wait()

        return class_similarity(
            teacher,
            task,
            num_old=num_old,
            preprocessing=self._preprocessing,
            device=self._device,
            on_batch=on_batch,
        )
