"""What tests of learners that grow look at: accuracy on feature vectors, and states to the bit."""

from collections.abc import Mapping

import torch
from tiny_networks import FEATURE_PREPROCESSING
from torch import Tensor, nn

from teacherd.models.evaluation import evaluate
from teacherd.models.learner import Learner
from teacherd.models.task import Task


def accuracy(learner: Learner, task: Task) -> float:
    """Measure the teacher."""
    return evaluate(
        learner.teacher,
        task.inputs,
        task.labels,
        preprocessing=FEATURE_PREPROCESSING,
        device=torch.device("cpu"),
    ).accuracy


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that a network holds."""
    return {name: each.clone() for name, each in network.state_dict().items()}


def are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Say whether two states are the same, bit for bit."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)
