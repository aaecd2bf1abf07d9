"""How alike new classes are to old ones: against the formula, on networks with and without rows."""

import numpy as np
import pytest
import torch
from tiny_networks import FEATURE_PREPROCESSING, NUM_FEATURES
from torch import Tensor, nn

from teacherd.models.class_similarity import class_similarity
from teacherd.models.task import Task


def similarity(network: nn.Module, inputs: list[list[float]], labels: list[int]) -> float:
    """Return it for feature vectors that the network knows two classes of."""
    task = Task(
        number=1,
        inputs=np.array(inputs, dtype=np.float32),
        labels=np.array(labels),
        num_new_classes=max(labels) - 1,
    )
    return class_similarity(
        network,
        task,
        num_old=2,
        preprocessing=FEATURE_PREPROCESSING,
        device=torch.device("cpu"),
    )


def linear(rows: list[list[float]]) -> nn.Linear:
    """Return a network whose embedding is its input."""
    network = nn.Linear(NUM_FEATURES, 2)
    network.weight.data = torch.tensor(rows)
    return network


def test_it_is_the_mean_of_the_largest_cosines() -> None:
    """Of each new class's mean with the rows; instances of known classes have no part in it."""
    network = linear([[2.0, 0, 0, 0], [0, 1.0, 1.0, 0]])
    inputs = [[9.0, 9, 9, 9], [1.0, 0, 0, 0], [3.0, 2, 0, 0], [0, 0, 1.0, 1.0]]
    # Class 2: mean (2, 1, 0, 0), nearest row 0; class 3: (0, 0, 1, 1), nearest row 1.
    expected = (2 / 5**0.5 + 1 / 2) / 2

    assert expected == pytest.approx(similarity(network, inputs, [0, 2, 2, 3]), rel=1e-5)


def test_it_is_never_negative() -> None:
    """A class opposite to all others is like none."""
    network = linear([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])

    assert 0 == similarity(network, [[-1.0, -1, 0, 0]], [2])


def test_a_network_without_rows_sees_no_likeness() -> None:
    """Its logits are made by something else than a linear layer."""

    class Sliced(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, :2]

    assert 0 == similarity(Sliced(), [[1.0, 0, 0, 0]], [2])
