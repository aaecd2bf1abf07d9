"""A few numbers that say where a task's inputs lie, so that two tasks can be compared without them.

The sketch is the mean of random Fourier features (Rahimi and Recht, "Random Features for
Large-Scale Kernel Machines", 2007) of the inputs' embeddings; the distance of two sketches is the
maximum mean discrepancy (MMD) of the tasks under a Gaussian kernel.

Legend: N instances, E embedding, D half the length of the sketch.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from teacherd.models.draws import Draws

NUM_FREQUENCIES = 64
"""Half the length of a sketch; 64 keep the error of the distance below a tenth of its bounds."""
_SCALE_SAMPLE = 256
"""Instances whose distances give the scale."""
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Sketch:
    """Of one task; only sketches of one scale can be compared."""

    values: tuple[float, ...]
    """Of Euclidean norm 1 at most."""
    scale: float


def sketch(embeddings_NE: Tensor, *, scale: float | None) -> Sketch:
    """Return the sketch of embeddings, those that are not finite left out.

    Args:
        embeddings_NE: On the CPU.
        scale: The kernel's width; None takes the median distance of the first instances.
    """
    finite_NE = embeddings_NE[embeddings_NE.isfinite().all(dim=1)].double()
    if not len(finite_NE):
        return Sketch((), scale or 1.0)
    scale = scale or _median_distance(finite_NE[:_SCALE_SAMPLE])
    phases_ND = finite_NE @ _frequencies(finite_NE.shape[1]) / scale
    mean = torch.cat([phases_ND.cos(), phases_ND.sin()], dim=1).mean(dim=0)
    values = (mean / NUM_FREQUENCIES**0.5).tolist()
    return Sketch(tuple(round(value, _DECIMALS) for value in values), scale)


def _median_distance(embeddings_NE: Tensor) -> float:
    distance = float(torch.pdist(embeddings_NE).median()) if len(embeddings_NE) > 1 else 0.0
    return distance if distance > 0 else 1.0


@functools.cache
def _frequencies(width: int) -> Tensor:
    """Return standard normal draws [E, D], the same in every process."""
    generator = Draws(seed=0, task=0).generator("sketch", width)
    return torch.randn(width, NUM_FREQUENCIES, generator=generator, dtype=torch.float64)
