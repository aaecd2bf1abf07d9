"""Tests of a network's flat tensors: complete, shared ones once, and never aliased."""

import pytest
import torch
from tiny_networks import build_tiny_cnn, build_tiny_linear
from torch import nn

from teacherd.models.module_tensors import (
    load_module_tensors,
    module_tensors,
    snapshot,
    with_prefix,
)


class Tied(nn.Module):
    """Two names for one weight, and a buffer that a state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.ones(1), persistent=False)


def test_shared_tensors_count_once_and_passing_buffers_count() -> None:
    """All that training could change, without what a file format would refuse."""
    assert {"first.weight", "scale"} == set(module_tensors(Tied()))


def test_a_snapshot_restores_a_network_and_does_not_follow_it() -> None:
    """Copies, contiguous whatever the memory format, back under their names."""
    network = build_tiny_cnn(1).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in the stubs
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    saved = snapshot(module_tensors(network), prefix="student")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    load_module_tensors(network, with_prefix({**saved, "teacher.x": torch.ones(1)}, "student"))

    assert all(tensor.is_contiguous() for tensor in saved.values())
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_tensors_of_another_network_are_refused_and_none_is_copied() -> None:
    """A shape that would broadcast is no match either; the error names the tensor."""
    network = build_tiny_linear()
    before = network.weight.detach().clone()
    foreign = {"weight": torch.zeros(1, 1), "bias": torch.zeros(3)}
    with pytest.raises(ValueError, match="weight: is missing, unknown or of another shape"):
        load_module_tensors(network, foreign)
    with pytest.raises(ValueError, match="extra: is missing"):
        load_module_tensors(network, {**module_tensors(network), "extra": torch.zeros(1)})

    assert torch.equal(before, network.weight)
