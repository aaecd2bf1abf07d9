"""Measurement: accuracy by evaluation set, version 0's once."""

import numpy as np
import torch
from torch import Tensor, nn

from teacherd.daemon.evaluation_sets import EvaluationSet
from teacherd.daemon.measurement import Measurement
from teacherd.models.preprocessing import Preprocessing


class Always(nn.Module):
    """Answers one class, and counts how often it was asked."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer
        self.num_calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        self.num_calls += 1
        return nn.functional.one_hot(torch.full((len(inputs),), self.answer), 3).float()


def measurement(base: nn.Module, **labels: list[int]) -> Measurement:
    """Return a measurement over sets with these labels."""
    sets = [
        EvaluationSet(name, np.zeros((len(each), 2), dtype=np.float32), np.array(each))
        for name, each in labels.items()
    ]
    return Measurement(
        sets,
        base=base,
        preprocessing=Preprocessing(mean=(0.0, 0.0), std=(1.0, 1.0), scale=1),
        device=torch.device("cpu"),
        batch_size=2,
    )


def test_each_set_has_its_accuracy() -> None:
    """Share of right answers, whatever the batches."""
    measured = measurement(Always(0), old=[0, 0, 0, 1], new=[2, 2, 1])

    assert {"old": 0.75, "new": 0.0} == measured.base
    assert {"old": 0.0, "new": 2 / 3} == measured.accuracy(Always(2))


def test_version_0_is_measured_once() -> None:
    """Its accuracy cannot change, so later tasks do not pay for it."""
    base = Always(0)
    measured = measurement(base, old=[0, 1])
    after_construction = base.num_calls
    measured.accuracy(Always(1))

    assert after_construction == base.num_calls
    assert {"old": 0.5} == measured.base


def test_without_sets_there_is_nothing_to_measure() -> None:
    """No evaluation set is a configuration, too."""
    assert {} == measurement(Always(0)).accuracy(Always(1))


def test_each_batch_is_told() -> None:
    """Whoever waits for a large set learns that it goes on."""
    measured = measurement(Always(0), old=[0] * 5, new=[1] * 2)
    batches: list[int] = []
    measured.accuracy(Always(1), on_batch=lambda: batches.append(1))

    assert 3 + 1 == len(batches)


def test_a_network_gets_wrong_what_it_does_not_know() -> None:
    """A set may have classes that later versions know, at whatever place these have them."""
    labels = np.array([0, 1, 2, 2])
    named = EvaluationSet("all", np.zeros((4, 2), dtype=np.float32), labels, ("a", "b", "new"))
    measured = Measurement(
        [named],
        base=Always(1),
        classes=("a", "b", "c"),
        preprocessing=Preprocessing(mean=(0.0, 0.0), std=(1.0, 1.0), scale=1),
        device=torch.device("cpu"),
        batch_size=2,
    )

    assert {"all": 0.25} == measured.base == measured.accuracy(Always(1), ("a", "b", "c"))
    assert {"all": 0.5} == measured.accuracy(Always(2), ("a", "b", "new"))
