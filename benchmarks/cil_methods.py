"""The methods that benchmarks/cil.py compares: rivals, ours, ablations.

All of them learn in the daemon's own Learner; a rival is a setting of it. Nothing that is learned
from but the newest increment is at hand, unless a method says that it has a memory.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from cil_data import ClassCourse
from course_trainers import CourseSetup, JointTrainer, Trainer
from torch import Tensor, nn

from teacherd.daemon.dataset import Dataset
from teacherd.models.backbone import BackboneConfig
from teacherd.models.class_means import attach_class_means
from teacherd.models.draws import Draws
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.mean_taking import take_class_means
from teacherd.models.memory import Memory
from teacherd.models.module_tensors import (
    load_module_tensors,
    module_tensors,
    snapshot,
    with_prefix,
)
from teacherd.models.task import Task


@dataclass(frozen=True, kw_only=True)
class ClassSetup(CourseSetup):
    """What every method starts from."""

    course: ClassCourse


class LearnerTrainer:
    """Learns each increment with the learner, and accepts whatever comes of it."""

    def __init__(
        self,
        setup: ClassSetup,
        config: LearnerConfig,
        *,
        is_one_group: bool = False,
        has_means: bool = False,
    ) -> None:
        self._setup = setup
        self._config = config
        self._is_one_group = is_one_group
        self._has_means = has_means
        memory = Memory()
        base = setup.course.parts[0]
        memory.offer(
            config.memory,
            base.inputs,
            base.labels,
            num_classes=setup.course.increments[0],
            draws=Draws(seed=setup.order, task=0),
        )
        network = self._with_means(setup.base) if has_means else setup.base
        self._learner = self._build(network, memory, sigma=None, num_done=0)

    @property
    def network(self) -> nn.Module:
        """The teacher."""
        return self._learner.teacher

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn it whole."""
        if self._is_one_group:
            self._learner.increments = ()
        task = Task(
            number=number,
            inputs=dataset.inputs,
            labels=dataset.labels,
            num_new_classes=self._setup.course.increments[number],
        )
        report = self._learner.learn(task, self._config.schedule(self._setup.order))
        self._learner.accept()
        return dict(report.losses)

    def state_dict(self) -> dict[str, Tensor]:
        """Return teacher, memory and the dust's strength."""
        state = snapshot(module_tensors(self._learner.teacher), prefix="teacher")
        if self._learner.sigma is not None:
            state["sigma"] = torch.tensor(self._learner.sigma, dtype=torch.float64)
        return {**state, **self._learner.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Put the learner where it was."""
        setup, memory, num_done = self._setup, Memory(), len(done)
        num_classes = sum(setup.course.increments[: num_done + 1])
        network = setup.scale.build_fresh(setup.course.test.input_shape, num_classes, 0)
        if self._has_means:
            attach_class_means(network, num_classes=num_classes)
        load_module_tensors(network, with_prefix(state, "teacher"))
        memory.load_state_dict(state)
        sigma = float(state["sigma"]) if "sigma" in state else None
        self._learner = self._build(network, memory, sigma=sigma, num_done=num_done)

    def _build(
        self, network: nn.Module, memory: Memory, *, sigma: float | None, num_done: int
    ) -> Learner:
        setup = self._setup
        shape = setup.course.test.input_shape
        return Learner(
            self._config,
            teacher=network,
            preprocessing=setup.preprocessing,
            sigma=sigma,
            device=setup.device,
            architecture=BackboneConfig(
                name=setup.scale.name, input_shape=shape, class_means=self._has_means
            ),
            factory=functools.partial(setup.scale.build, input_shape=shape),
            increments=setup.course.increments[: num_done + 1],
            memory=memory,
        )

    def _with_means(self, base: nn.Module) -> nn.Module:
        """Return the base with the mean embeddings of its classes, as `teacherd pretrain` does."""
        course, network = self._setup.course, copy.deepcopy(base)
        attach_class_means(network, num_classes=course.num_base_classes)
        take_class_means(
            network,
            course.base.inputs,
            course.base.labels,
            preprocessing=self._setup.preprocessing,
            device=self._setup.device,
        )
        return network


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMethod:
    """One way to go through the increments."""

    text: str
    """What it is, in a report."""
    settings: Mapping[str, Any]
    """What it changes about the scale's learning, `section.key` to value."""
    has_memory: bool = False
    """Whether it has the scale's memory."""
    is_one_group: bool = False
    """Whether all old classes are one group, as in LwF."""
    has_means: bool = False
    """Whether versions carry the mean embedding of each class."""

    def build(self, setup: ClassSetup) -> Trainer:
        """Return it, before the first increment."""
        config = setup.scale.learning
        for name, value in self.settings.items():
            section, _, key = name.partition(".")
            config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
        if self.has_memory:
            config = replace(config, memory=setup.scale.memory)
        return LearnerTrainer(
            setup, config, is_one_group=self.is_one_group, has_means=self.has_means
        )


class JointMethod(ClassMethod):
    """The limit."""

    def build(self, setup: ClassSetup) -> Trainer:
        """Return it."""
        return JointTrainer(setup)


class IcarlMethod(ClassMethod):
    """A rival that needs avalanche-lib."""

    def build(self, setup: ClassSetup) -> Trainer:
        """Return it."""
        from cil_icarl import IcarlTrainer  # noqa: PLC0415 - not installed with us

        return IcarlTrainer(setup)


_PLAIN = {
    "distillation.label_share": 1.0,
    "distillation.dust_weight": 0.0,
    "new_classes.weight": 0.0,
    "new_classes.labels": "all",
    "consolidation.kind": "none",
}
_DISTILLED = {**_PLAIN, "new_classes.weight": 1.0, "new_classes.weighting": "constant"}


def _ours(text: str, **settings: Any) -> ClassMethod:  # noqa: ANN401 - settings
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    return ClassMethod(text=text, settings=changes, has_memory=True)


METHODS: Mapping[str, ClassMethod] = {
    "joint": JointMethod(text="joint training from scratch on everything (the limit)", settings={}),
    "fine_tuning": ClassMethod(text="fine-tuning", settings=_PLAIN),
    "lwf": ClassMethod(text="LwF", settings=_DISTILLED, is_one_group=True),
    "task_wise": ClassMethod(
        text="task-wise distillation", settings={**_DISTILLED, "new_classes.pool": "increments"}
    ),
    "lwf_present": ClassMethod(
        text="LwF, labels among new classes alone, as ours",
        settings={**_DISTILLED, "new_classes.labels": "present"},
        is_one_group=True,
    ),
    "ours": ClassMethod(text="ours, the defaults", settings={}),
    "ours_means": ClassMethod(text="ours with class means", settings={}, has_means=True),
    "all_labels": ClassMethod(
        text="ours, labels among all classes", settings={"new_classes.labels": "all"}
    ),
    "replay": ClassMethod(text="experience replay", settings=_PLAIN, has_memory=True),
    "lwf_memory": ClassMethod(
        text="LwF with memory", settings=_DISTILLED, has_memory=True, is_one_group=True
    ),
    "ours_memory": _ours("ours with memory"),
    "random_groups": _ours("ours with memory, RDKD", new_classes__groups="random"),
    "pool_increments": _ours("ours with memory, pool: increments", new_classes__pool="increments"),
    "constant_weight": _ours(
        "ours with memory, constant weight", new_classes__weighting="constant"
    ),
    "without_weight": _ours("ours with memory, without L_KD", new_classes__weight=0.0),
    "without_dust": _ours("ours with memory, without dusted inputs", distillation__dust_weight=0.0),
    "without_fused": _ours(
        "ours with memory, without the teacher's share in the labels",
        distillation__label_share=1.0,
    ),
    "without_consolidation": _ours(
        "ours with memory, without KC-EMA, student served", consolidation__kind="none"
    ),
}

OPTIONAL: Mapping[str, ClassMethod] = {
    "icarl": IcarlMethod(text="iCaRL of avalanche-lib", settings={}, has_memory=True),
}

ALL_METHODS: Mapping[str, ClassMethod] = {**METHODS, **OPTIONAL}
