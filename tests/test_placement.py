"""Tests of placement: precision and memory format by device, and determinism on the CPU."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from teacherd.models.placement import Placement, Precision, enable_determinism

CPU = torch.device("cpu")


@pytest.fixture
def restored_determinism() -> Iterator[None]:
    """Put torch back afterwards: the switch is the whole process's."""
    was_enabled = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(was_enabled)
    torch.utils.deterministic.fill_uninitialized_memory = filled


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_the_cpu_computes_in_float32_unless_told_otherwise(
    precision: Precision, expected: torch.dtype
) -> None:
    """Weights stay float32 in any case."""
    placement = Placement(device=CPU, precision=precision)
    network = placement.place(nn.Linear(2, 2))
    with placement.autocast():
        answer = network(torch.ones(1, 2))

    assert expected == answer.dtype
    assert torch.float32 == network.weight.dtype


def test_the_cpu_reads_channels_first() -> None:
    """Networks and images keep their memory format there."""
    placement = Placement(device=CPU)
    images = placement.place_inputs(torch.ones(2, 3, 4, 4))
    network = placement.place(nn.Conv2d(3, 3, 3))

    assert images.is_contiguous()
    assert network.weight.is_contiguous()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_reads_channels_last() -> None:
    """Networks and images have the format in which its convolutions are fast."""
    placement = Placement(device=torch.device("cuda"))
    images = placement.place_inputs(torch.ones(2, 3, 4, 4))
    network = placement.place(nn.Conv2d(3, 3, 3))

    assert images.is_contiguous(memory_format=torch.channels_last)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("restored_determinism")
@pytest.mark.parametrize(("device", "expected"), [("cpu", True), ("cuda", False)])
def test_determinism_is_for_the_whole_process_on_the_cpu(device: str, expected: bool) -> None:
    """Torch is told so on the CPU; CUDA stays as it is."""
    torch.use_deterministic_algorithms(mode=False)
    enable_determinism(torch.device(device))

    assert expected == torch.are_deterministic_algorithms_enabled()
