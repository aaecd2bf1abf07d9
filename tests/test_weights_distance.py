"""Distances of weights: what is compared with what, and in which unit."""

import pytest
import torch
from torch import Tensor

from teacherd.models.weights_distance import WeightsDistance, measure_distance

_OTHER = {"other.weight": torch.ones(1)}
"""A second module: names that all tensors begin with are passed over."""


def test_a_distance_is_told_in_lengths_of_what_was_before() -> None:
    """A vector of length 5 that moves by 1 has changed by a fifth, in one of its two elements."""
    before = {"head.weight": torch.tensor([3.0, 4.0]), **_OTHER}
    after = {"head.weight": torch.tensor([3.0, 5.0]), **_OTHER}
    found = measure_distance(before, after)["head"]

    assert pytest.approx(0.2) == found.relative_change
    assert (2, 0.5, 0) == (found.num_elements, found.changed_ratio, found.num_new)


def test_tensors_of_a_module_are_one_vector() -> None:
    """Not a mean of their distances: a small bias that doubles says little."""
    before = {"a.weight": torch.tensor([4.0]), "a.bias": torch.tensor([3.0]), **_OTHER}
    after = {"a.weight": torch.tensor([4.0]), "a.bias": torch.tensor([6.0]), **_OTHER}

    assert pytest.approx(3 / 5) == measure_distance(before, after)["a"].relative_change


def test_modules_are_those_below_a_wrapper() -> None:
    """A name that all tensors begin with tells nothing apart."""
    tensors = {"network.stem.weight": torch.ones(1), "network.head.0.bias": torch.ones(1)}
    bare = {"weight": torch.ones(1), "bias": torch.ones(1)}
    lone = {"head.weight": torch.ones(1), "head.bias": torch.ones(1)}

    assert ["stem", "head"] == list(measure_distance(tensors, tensors))
    assert ["weight", "bias"] == list(measure_distance(bare, bare))
    assert ["weight", "bias"] == list(measure_distance(lone, lone))


def test_of_a_head_that_has_grown_the_old_rows_are_compared() -> None:
    """The rows of new classes were nowhere before."""
    before = {"x.w": torch.ones(1), "head.w": torch.ones(2, 3)}
    after = {"x.w": torch.ones(1), "head.w": torch.cat((torch.ones(2, 3), torch.full((1, 3), 9.0)))}
    found = measure_distance(before, after)["head"]

    assert (0.0, 0.0, 6, 3) == (
        found.relative_change,
        found.changed_ratio,
        found.num_elements,
        found.num_new,
    )


@pytest.mark.parametrize("before", [{}, {"head.w": torch.ones(4)}])
def test_what_has_no_counterpart_is_new(before: dict[str, Tensor]) -> None:
    """A tensor that was not there, or had other dimensions."""
    found = measure_distance(before, {"head.w": torch.ones(2, 2), "x.w": torch.ones(1)})["head"]

    assert (0, 4, 0.0) == (found.num_elements, found.num_new, found.changed_ratio)


def test_from_zero_no_length_can_be_told() -> None:
    """A bias that begins at zero has no relative change, unless it stays there."""
    zero, one = {"a.b": torch.zeros(2), **_OTHER}, {"a.b": torch.ones(2), **_OTHER}

    assert measure_distance(zero, one)["a"].relative_change is None
    assert 0.0 == measure_distance(zero, zero)["a"].relative_change


def test_counts_are_no_weights() -> None:
    """BatchNorm's number of batches grows with every step."""
    before = {"bn.num_batches_tracked": torch.tensor(5), "fc.weight": torch.ones(1)}
    after = {"bn.num_batches_tracked": torch.tensor(9), "fc.weight": torch.ones(1)}

    assert ["fc"] == list(measure_distance(before, after))


def test_half_precision_does_not_lose_small_changes() -> None:
    """Their squares are below what half precision can hold."""
    before = {"a.w": torch.full((4,), 1e-3, dtype=torch.float16), "b.w": torch.ones(1)}
    after = {"a.w": torch.full((4,), 2e-3, dtype=torch.float16), "b.w": torch.ones(1)}
    change = measure_distance(before, after)["a"].relative_change

    assert pytest.approx(1, rel=1e-2) == change


def test_distances_add_up() -> None:
    """The whole network's is that of its modules taken together."""
    before = {"a.w": torch.tensor([4.0]), "b.w": torch.tensor([3.0])}
    after = {"a.w": torch.tensor([4.0]), "b.w": torch.tensor([3.5])}
    total = sum(measure_distance(before, after).values(), WeightsDistance())

    assert (pytest.approx(0.1), 0.5) == (total.relative_change, total.changed_ratio)
