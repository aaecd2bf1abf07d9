"""The sizes in which benchmarks/cil.py runs: data, increments, network, base recipe, learning."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import yaml
from cil_network import ResNet32
from iil_network import StridedCnn
from iil_scale import assign_setting
from torch import nn

from teacherd.daemon.pretraining import PretrainConfig
from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.memory import MemoryConfig

_USUAL_28 = AugmentationConfig(crop_padding=2, horizontal_flip=True)
_USUAL_32 = AugmentationConfig(crop_padding=4, horizontal_flip=True)
_IMAGE_BYTES = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScale:
    """A size of the benchmark."""

    name: str
    dataset: str
    increments: tuple[int, ...]
    """Classes of each, base first."""
    per_class: int | None
    """Instances of each class to learn from; None: all."""
    build: Callable[..., nn.Module]
    """Called with `input_shape` and `num_classes`."""
    pretraining: PretrainConfig
    """Of the base, and of joint retraining."""
    memory: MemoryConfig
    """Of the methods that have one."""
    learning: LearnerConfig = field(default_factory=LearnerConfig)
    """The daemon's defaults, but for what the scale needs; every method starts from it."""

    @property
    def base_key(self) -> str:
        """Name what base weights depend on, but for order and split."""
        return f"{self.dataset}-{self.increments[0]}x{self.per_class or 'all'}"

    @property
    def key(self) -> str:
        """Name the course, but for order and split."""
        return f"{self.base_key}-{'-'.join(map(str, self.increments[1:]))}"

    def build_fresh(self, input_shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
        """Return the network with weights drawn by a seed; the global generator stays as it is."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build(input_shape=input_shape, num_classes=num_classes)

    def with_settings(self, assignments: tuple[str, ...]) -> "ClassScale":
        """Return the scale with settings of learning changed, `new_classes.weight=2`.

        Raises:
            ValueError: There is no such setting, or it cannot have such a value.
        """
        learning: Any = self.learning
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            learning = assign_setting(learning, name.split("."), yaml.safe_load(value))
        return replace(self, learning=learning)


_CIFAR = ClassScale(
    name="gpu",
    dataset="cifar100",
    increments=(50, *(5,) * 10),
    per_class=None,
    build=ResNet32,
    pretraining=PretrainConfig(
        epochs=100, batch_size=128, learning_rate=0.002, augmentation=_USUAL_32
    ),
    # 2,000 images, whatever the number of classes among which they are shared.
    memory=MemoryConfig(instances_per_class=500, max_bytes=2_000 * _IMAGE_BYTES),
    learning=LearnerConfig(epochs=60, batch_size=128, augmentation=_USUAL_32),
)

SCALES = {
    "cpu": ClassScale(
        name="cpu",
        dataset="fashion_mnist",
        increments=(4, 2, 2, 2),
        per_class=300,
        build=StridedCnn,
        pretraining=PretrainConfig(epochs=20, augmentation=_USUAL_28),
        memory=MemoryConfig(instances_per_class=20),
        learning=LearnerConfig(augmentation=_USUAL_28),
    ),
    "gpu": _CIFAR,
    "gpu-50x20": replace(_CIFAR, name="gpu-50x20", increments=(50, *[2, 3] * 10)),
    "gpu-0x10": replace(_CIFAR, name="gpu-0x10", increments=(10,) * 10),
    "gpu-0x20": replace(_CIFAR, name="gpu-0x20", increments=(5,) * 20),
    # The large scale at a size that a CPU can bear: does all of it run?
    "tiny": replace(
        _CIFAR,
        name="tiny",
        increments=(4, 2, 2),
        per_class=12,
        pretraining=replace(_CIFAR.pretraining, epochs=1),
        memory=MemoryConfig(instances_per_class=4),
        learning=replace(_CIFAR.learning, epochs=2, batch_size=16),
    ),
}
