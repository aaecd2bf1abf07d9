"""A learner with few weights, settings that learn quickly, and what comes of a task."""

from collections.abc import Mapping

import torch
from tiny_networks import (
    IMAGE_PREPROCESSING,
    build_tiny_cnn,
)
from torch import Tensor, nn

from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.optimizer import OptimizerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Schedule, Task

CPU = torch.device("cpu")

FIVE_EPOCHS = Schedule(seed=3, epochs=5, learning_rate=0.05)

SGD = OptimizerConfig(kind="sgd", decay="none")

NOISE = DistillationConfig(form="fused", temperature=1, dust="noise")

METHOD = LearnerConfig(
    batch_size=4,
    optimizer=SGD,
    distillation=NOISE,
    consolidation=ConsolidationConfig(retain=0.5, freezing_epochs=1, interval_epochs=2),
)

FINE_TUNING = LearnerConfig(
    batch_size=4,
    optimizer=SGD,
    distillation=DistillationConfig(label_share=1, dust_weight=0),
    consolidation=ConsolidationConfig(kind="none"),
)


class CountingLinear(nn.Linear):
    """Counts the instances that it is asked about, with gradient and without."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.num_asked = {True: 0, False: 0}

    def forward(self, inputs: Tensor) -> Tensor:
        """Count and answer."""
        self.num_asked[torch.is_grad_enabled()] += len(inputs)
        return super().forward(inputs)


def build_learner(
    config: LearnerConfig = METHOD,
    *,
    teacher: nn.Module | None = None,
    preprocessing: Preprocessing = IMAGE_PREPROCESSING,
    sigma: float | None = 0.5,
) -> Learner:
    """Return a learner of the tiny network, on the CPU."""
    return Learner(
        config,
        teacher=build_tiny_cnn() if teacher is None else teacher,
        preprocessing=preprocessing,
        sigma=sigma,
        device=CPU,
    )


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that a network holds."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Say whether two states are the same, bit for bit."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def result_of(learner: Learner, task: Task, schedule: Schedule = FIVE_EPOCHS) -> dict[str, Tensor]:
    """Learn a task and return the candidate."""
    learner.learn(task, schedule)
    return tensors(learner.candidate)
