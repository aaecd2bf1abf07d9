"""How a teacher is built and used: the same for every version that learning makes of it."""

import math
from dataclasses import dataclass

from teacherd.models.backbone import BackboneConfig
from teacherd.models.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """A network, what its outputs are called and what its inputs go through."""

    architecture: BackboneConfig
    """The network whose weights these are."""

    classes: tuple[str, ...]
    """Names of the logits, in their order."""

    preprocessing: Preprocessing
    """What raw inputs go through before the network."""

    increments: tuple[int, ...] | None = None
    """How many classes came at a time, in their order; None: all at once."""

    sigma: float | None = None
    """Calibrated deviation of the dust (method.md, 2.3); None before the first calibration."""

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: {self.classes}: must be one or more different names")
        if self.increments is not None:
            _check_increments(self.increments, len(self.classes))
        num_means, num_channels = len(self.preprocessing.mean), self.architecture.input_shape[0]
        if num_means != num_channels:
            raise ValueError(
                f"preprocessing: has {num_means} means: must have one for each of the "
                f"{num_channels} channels or features of architecture.input_shape"
            )
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma: {self.sigma}: must be finite and at least 0")


def _check_increments(increments: tuple[int, ...], num_classes: int) -> None:
    """Refuse what is not all classes, or comes to the same as None."""
    if len(increments) < 2 or min(increments) < 1 or sum(increments) != num_classes:  # noqa: PLR2004 - later ones came, too
        raise ValueError(
            f"increments: {list(increments)}: must be two or more, each at least 1, and together "
            f"the {num_classes} classes; leave it out where all came at once"
        )
