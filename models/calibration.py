"""Calibrating the dust: how strong the noise must be to move instances over the boundary.

method.md 2.3: strong noise is (S), its strength (O): a chosen share of instances changes its class.

Legend: B batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST_SIGMA = 1e-3
LARGEST_SIGMA = 8.0
"""In normalised units; there hardly anything is left of the input."""

_TOLERANCE = 0.01
_MOST_HALVINGS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The dust found, and what it does."""

    sigma: float
    """Standard deviation in normalised input units."""
    flip_share: float
    """Share of the instances whose class the network changes under it."""


@torch.no_grad()
def calibrate_dust(
    network: nn.Module,
    batches: Sequence[Tensor],
    *,
    flip_share: float,
    build_generator: Callable[[], torch.Generator],
    on_batch: Callable[[], None] = lambda: None,
) -> Calibration:
    """Find the deviation of Gaussian dust under which a share of instances changes its class.

    Bisection on the logarithm of sigma, from SMALLEST_SIGMA to LARGEST_SIGMA. All strengths are
    tried with the same draws, so the result is a function of network, instances and generator.
    A network that flips too few even at LARGEST_SIGMA gets that one, a network that flips too many
    even at SMALLEST_SIGMA that one: `flip_share` of the result tells.

    Args:
        network: In eval mode; lies where the batches lie.
        batches: Normalised inputs [B, ...], at least one batch.
        flip_share: Share wanted.
        build_generator: Returns the same generator, at its start, each time.
        on_batch: Called after each forward pass over dusted inputs.
    """
    clean = [network(inputs).argmax(dim=1) for inputs in batches]
    num_instances = sum(len(classes) for classes in clean)

    def flips(sigma: float) -> float:
        generator = build_generator()
        num_flips = torch.zeros((), dtype=torch.int64, device=batches[0].device)
        for inputs, classes in zip(batches, clean, strict=True):
            dusted = torch.empty_like(inputs).normal_(0, sigma, generator=generator).add_(inputs)
            num_flips += (network(dusted).argmax(dim=1) != classes).sum()
            on_batch()
        return int(num_flips) / num_instances

    return _bisect(flips, flip_share)


def _bisect(flips: Callable[[float], float], wanted: float) -> Calibration:
    low, high = SMALLEST_SIGMA, LARGEST_SIGMA
    low_share, high_share = flips(low), flips(high)
    if high_share <= wanted:
        return Calibration(sigma=high, flip_share=high_share)
    if low_share >= wanted:
        return Calibration(sigma=low, flip_share=low_share)
    # From here on flips(low) < wanted < flips(high); the share need not be monotone between.
    for _ in range(_MOST_HALVINGS):
        middle = math.sqrt(low * high)
        share = flips(middle)
        if abs(share - wanted) <= _TOLERANCE:
            return Calibration(sigma=middle, flip_share=share)
        if share < wanted:
            low, low_share = middle, share
        else:
            high, high_share = middle, share
    if wanted - low_share <= high_share - wanted:
        return Calibration(sigma=low, flip_share=low_share)
    return Calibration(sigma=high, flip_share=high_share)
