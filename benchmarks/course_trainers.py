"""What every method of benchmarks/iil.py and cil.py starts from, what it can do, and the limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from course_data import Course
from torch import Tensor, nn

from teacherd.daemon.dataset import Dataset
from teacherd.daemon.pretraining import pretrain
from teacherd.models.evaluation import Evaluation, evaluate
from teacherd.models.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class CourseSetup:
    """What every method starts from."""

    scale: Any
    """The benchmark's own CourseScale."""
    course: Course
    base: nn.Module
    """The base model's network; whoever changes it takes a copy."""
    preprocessing: Preprocessing
    order: int
    device: torch.device

    def measure(self, network: nn.Module, dataset: Dataset) -> Evaluation:
        """Measure a network on a data set."""
        return evaluate(
            network,
            dataset.inputs,
            dataset.labels,
            preprocessing=self.preprocessing,
            device=self.device,
        )


class Trainer(Protocol):
    """Learns a course task by task."""

    @property
    def network(self) -> nn.Module:
        """What is measured and would be served."""

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:
        """Learn a task, numbered from 1; return what is worth noting."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what must survive between two tasks."""

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Go on after the tasks that are done."""


class JointTrainer:
    """Trains from scratch on everything seen, after the last task: the practical limit."""

    def __init__(self, setup: CourseSetup) -> None:
        self._setup = setup
        self.network = setup.base

    def learn(self, number: int, dataset: Dataset) -> Mapping[str, float]:  # noqa: ARG002 - a Trainer's
        """Wait for the last task, then train as the base was trained."""
        setup, course = self._setup, self._setup.course
        if number < len(course.tasks):
            return {}
        seen = course.seen
        fresh = setup.scale.build_fresh(seen.input_shape, course.num_classes, setup.order)
        pretrain(
            fresh.to(setup.device),
            seen.inputs,
            seen.labels,
            config=setup.scale.pretraining,
            preprocessing=setup.preprocessing,
            seed=setup.order,
            device=setup.device,
        )
        self.network = fresh
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: all that is learned is learned at the end."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], done: tuple[Dataset, ...]) -> None:
        """Nothing to load."""
