"""Tests of the dust's calibration: the share wanted, always the same, and bounded."""

import functools

import pytest
import torch
from torch import Tensor, nn

from teacherd.models.calibration import (
    LARGEST_SIGMA,
    SMALLEST_SIGMA,
    Calibration,
    _bisect,
    calibrate_dust,
)
from teacherd.models.draws import Draws

DRAWS = Draws(seed=5, task=1)


class Sign(nn.Module):
    """Two classes, by the sign of the first feature minus a threshold."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, 2]."""
        score = inputs[:, 0] - self.threshold
        return torch.stack([-score, score], dim=1)


def calibrate(network: nn.Module, inputs: Tensor, share: float, seed: int = 5) -> Calibration:
    """Calibrate with keyed draws, in batches of 100."""
    draws = Draws(seed=seed, task=1)
    return calibrate_dust(
        network,
        torch.split(inputs, 100),
        flip_share=share,
        build_generator=functools.partial(draws.generator, "calibration"),
    )


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_the_share_wanted_is_found_where_theory_has_it(share: float) -> None:
    """At distance one from the boundary, sigma flips Phi(-1 / sigma) of the instances."""
    inputs = torch.ones(4000, 1)
    found = calibrate(Sign(), inputs, share)

    normal = torch.distributions.Normal(0.0, 1.0)
    expected = float(-1 / normal.icdf(torch.tensor(share)))
    assert share == pytest.approx(found.flip_share, abs=0.01)
    assert expected == pytest.approx(found.sigma, rel=0.1)


def test_the_share_reported_is_that_of_the_sigma_found() -> None:
    """Counted again with the same draws, so many instances change their class."""
    inputs = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    found = calibrate(Sign(), inputs, 0.25)
    generator = DRAWS.generator("calibration")
    flips = 0
    for batch in inputs.split(100):
        noise = torch.empty_like(batch).normal_(0, found.sigma, generator=generator)
        flips += int((((batch + noise) > 0) != (batch > 0)).sum())

    assert flips / 300 == pytest.approx(found.flip_share)


def test_a_calibration_is_a_function_of_its_arguments() -> None:
    """The same draws give the same sigma whatever was drawn before; other draws another one."""
    inputs = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = calibrate(Sign(), inputs, 0.3)
    torch.manual_seed(2)

    assert first == calibrate(Sign(), inputs, 0.3)
    assert first != calibrate(Sign(), inputs, 0.3, seed=6)


def test_a_network_that_nothing_moves_gets_the_largest_dust() -> None:
    """One answer for everything: the bound is returned, and the share says that it is zero."""
    found = calibrate(Sign(threshold=1e9), torch.ones(50, 1), 0.3)

    assert Calibration(sigma=LARGEST_SIGMA, flip_share=0.0) == found


def test_a_network_that_everything_moves_gets_the_smallest_dust() -> None:
    """On the boundary itself half of the instances flip at any strength."""
    found = calibrate(Sign(), torch.full((1000, 1), 1e-9), 0.3)

    assert found.sigma == SMALLEST_SIGMA
    assert 0.5 == pytest.approx(found.flip_share, abs=0.06)


def test_one_instance_is_enough_to_end() -> None:
    """Its share is zero or one, never the one wanted: the nearest side is taken."""
    found = calibrate(Sign(), torch.ones(1, 1), 0.3)

    assert SMALLEST_SIGMA <= found.sigma <= LARGEST_SIGMA
    assert found.flip_share in {0.0, 1.0}


@pytest.mark.parametrize(("wanted", "share"), [(0.1, 0.0), (0.9, 1.0)])
def test_a_share_that_leaps_over_the_one_wanted_ends_on_the_nearer_side(
    wanted: float, share: float
) -> None:
    """Where all instances flip at sigma one together, that is the edge, from below or above."""
    found = _bisect(lambda sigma: float(sigma >= 1.0), wanted)

    assert share == found.flip_share
    assert 1.0 == pytest.approx(found.sigma, rel=1e-3)
    assert (found.sigma >= 1.0) == bool(share)
