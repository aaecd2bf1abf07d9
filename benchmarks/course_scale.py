"""What the sizes of benchmarks/iil.py and cil.py have in common: data, network, base recipe."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
import yaml
from torch import nn

from teacherd.daemon.pretraining import PretrainConfig
from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.learner_config import LearnerConfig

USUAL_28 = AugmentationConfig(crop_padding=2, horizontal_flip=True)
USUAL_32 = AugmentationConfig(crop_padding=4, horizontal_flip=True)


@dataclass(frozen=True, kw_only=True)
class CourseScale(ABC):
    """A size of a benchmark."""

    name: str
    dataset: str
    build: Callable[..., nn.Module]
    """Called with `input_shape` and `num_classes`."""
    pretraining: PretrainConfig
    """Of the base, and of joint retraining."""
    learning: LearnerConfig = field(default_factory=LearnerConfig)
    """The daemon's defaults, but for what the scale needs; every method starts from it."""

    @property
    @abstractmethod
    def base_key(self) -> str:
        """Name what base weights depend on, but for order and split."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Name the course, but for order and split."""

    def build_fresh(self, input_shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
        """Return the network with weights drawn by a seed; the global generator stays as it is."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build(input_shape=input_shape, num_classes=num_classes)

    def with_settings(self, assignments: tuple[str, ...]) -> Self:
        """Return the scale with settings of learning changed, `optimizer.learning_rate=0.02`.

        Raises:
            ValueError: There is no such setting, or it cannot have such a value.
        """
        learning: Any = self.learning
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            learning = _assign(learning, name.split("."), yaml.safe_load(value))
        return replace(self, learning=learning)


def _assign(config: Any, path: list[str], value: Any) -> Any:  # noqa: ANN401 - any dataclass
    """Return a configuration with the setting at a path changed."""
    if not hasattr(config, path[0]):
        raise ValueError(f"--set: {path[0]}: {type(config).__name__} has no such setting")
    if len(path) > 1:
        value = _assign(getattr(config, path[0]), path[1:], value)
    return replace(config, **{path[0]: value})
