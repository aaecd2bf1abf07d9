"""Sketches: distances of tasks from a few numbers each."""

import numpy as np
import pytest
import torch
from torch import Tensor

from teacherd.daemon.input_sketch import NUM_FREQUENCIES, sketch


def embeddings(shift: float, *, seed: int, num: int = 2000) -> Tensor:
    """Return normal embeddings of 16 dimensions, each shifted."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 16, generator=generator) + shift


def discrepancy(one: Tensor, other: Tensor, scale: float) -> float:
    """Return the MMD under a Gaussian kernel, by its definition."""

    def mean_kernel(left: Tensor, right: Tensor) -> float:
        return float((-(torch.cdist(left, right) ** 2) / (2 * scale**2)).exp().mean())

    squared = mean_kernel(one, one) + mean_kernel(other, other) - 2 * mean_kernel(one, other)
    return max(0.0, squared) ** 0.5


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, 1.0])
def test_the_distance_of_two_sketches_is_the_discrepancy_of_their_inputs(shift: float) -> None:
    """To a tenth: so much do 64 frequencies give."""
    one, other = embeddings(0.0, seed=1), embeddings(shift, seed=2)
    first = sketch(one, scale=None)
    second = sketch(other, scale=first.scale)
    distance = float(np.linalg.norm(np.array(first.values) - np.array(second.values)))

    assert discrepancy(one, other, first.scale) == pytest.approx(distance, rel=0.15, abs=0.02)


def test_the_scale_is_the_median_distance() -> None:
    """So that a network's own unit does not matter."""
    one = embeddings(0.0, seed=1)
    small, large = sketch(one, scale=None), sketch(one * 1000, scale=None)

    assert torch.pdist(one[:256]).median().item() == pytest.approx(small.scale)
    assert small.values == pytest.approx(large.values, abs=1e-4)


def test_frequencies_are_the_same_in_every_process() -> None:
    """Sketches lie in the lineage log, and are compared with those of years ago."""
    values = sketch(torch.ones(1, 3), scale=1.0).values

    assert 2 * NUM_FREQUENCIES == len(values)
    assert 1 == pytest.approx(sum(value**2 for value in values), abs=1e-3)
    assert (0.1197, 0.12389, -0.00965) == pytest.approx(values[:3], abs=1e-5)


def test_embeddings_that_are_not_finite_are_left_out() -> None:
    """A broken instance must not hide the others; of none there is no sketch."""
    one = embeddings(0.0, seed=1, num=10)
    broken = torch.cat([one, torch.full((1, 16), torch.nan)])

    assert sketch(one, scale=2.0) == sketch(broken, scale=2.0)
    assert () == sketch(broken[10:], scale=None).values


def test_equal_inputs_have_a_sketch_too() -> None:
    """Their median distance is 0, which is no unit."""
    assert 1.0 == sketch(torch.zeros(5, 16), scale=None).scale
    assert 1.0 == sketch(torch.zeros(1, 16), scale=None).scale
