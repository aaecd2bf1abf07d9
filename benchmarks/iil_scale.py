"""The sizes in which benchmarks/iil.py runs: data, network, base recipe and learning."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import yaml
from iil_network import StridedCnn
from torch import nn

from teacherd.daemon.pretraining import PretrainConfig
from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.torchvision_networks import build_torchvision_network

_USUAL_28 = AugmentationConfig(crop_padding=2, horizontal_flip=True)
_USUAL_32 = AugmentationConfig(crop_padding=4, horizontal_flip=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A size of the benchmark."""

    name: str
    dataset: str
    num_base: int
    num_tasks: int
    task_instances: int
    build: Callable[[tuple[int, ...], int], nn.Module]
    """Called with the shape of an input and the number of classes."""
    pretraining: PretrainConfig
    """Of the base, and of joint retraining."""
    num_test: int | None = None
    """Instances of the test set that are measured with; None: all."""
    learning: LearnerConfig = field(default_factory=LearnerConfig)
    """The daemon's defaults, but for what the scale needs; every method starts from it."""

    @property
    def base_key(self) -> str:
        """Name what base weights depend on, but for order and split."""
        return f"{self.dataset}-{self.num_base}"

    @property
    def key(self) -> str:
        """Name the course, but for order and split."""
        return f"{self.base_key}-{self.num_tasks}x{self.task_instances}"

    def build_fresh(self, input_shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
        """Return the network with weights drawn by a seed; the global generator stays as it is."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build(input_shape, num_classes)

    def with_settings(self, assignments: tuple[str, ...]) -> "Scale":
        """Return the scale with settings of learning changed, `optimizer.learning_rate=0.02`.

        Raises:
            ValueError: There is no such setting, or it cannot have such a value.
        """
        learning: Any = self.learning
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            learning = assign_setting(learning, name.split("."), yaml.safe_load(value))
        return replace(self, learning=learning)


def assign_setting(config: Any, path: list[str], value: Any) -> Any:  # noqa: ANN401 - any dataclass
    """Return a configuration with the setting at a path changed."""
    if not hasattr(config, path[0]):
        raise ValueError(f"--set: {path[0]}: {type(config).__name__} has no such setting")
    if len(path) > 1:
        value = assign_setting(getattr(config, path[0]), path[1:], value)
    return replace(config, **{path[0]: value})


_GPU = Scale(
    name="gpu",
    dataset="cifar100",
    num_base=25_000,
    num_tasks=10,
    task_instances=2_500,
    build=lambda shape, classes: build_torchvision_network(
        "resnet18", input_shape=shape, num_classes=classes
    ),
    pretraining=PretrainConfig(
        epochs=60, batch_size=128, learning_rate=0.002, augmentation=_USUAL_32
    ),
    learning=LearnerConfig(batch_size=128, augmentation=_USUAL_32),
)

SCALES = {
    "cpu": Scale(
        name="cpu",
        dataset="fashion_mnist",
        num_base=6_000,
        num_tasks=10,
        task_instances=600,
        build=lambda shape, classes: StridedCnn(input_shape=shape, num_classes=classes),
        pretraining=PretrainConfig(epochs=20, augmentation=_USUAL_28),
        learning=LearnerConfig(augmentation=_USUAL_28),
    ),
    "gpu": _GPU,
    # The large scale at a size that a CPU can bear: does all of it run?
    "tiny": replace(
        _GPU,
        name="tiny",
        num_base=400,
        num_tasks=2,
        task_instances=60,
        num_test=200,
        pretraining=replace(_GPU.pretraining, epochs=1),
        learning=replace(_GPU.learning, epochs=2),
    ),
}
