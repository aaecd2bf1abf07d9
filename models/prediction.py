"""What a served version answers.

Legend: B batch, K classes.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """What exactly one version says about a batch."""

    version: int
    """The version that said it."""

    epoch: int
    """Its epoch; (epoch, version) only ever grows."""

    classes: tuple[str, ...]
    """Names of the columns of `probabilities`."""

    probabilities: Tensor
    """Float32 [B, K] on the CPU; each row sums to 1."""

    labels: tuple[str, ...]
    """The most probable class of each instance."""
