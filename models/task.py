"""What is learned together, and how long and fast: the two things that a plan decides.

Legend: N instances, C channels, H height, W width, F features.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_IMAGE_NDIM = 4
_VECTOR_NDIM = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Labelled instances that are learned together, in the order of their identity.

    Nothing but this order may depend on how they arrived: every shuffle starts from it.
    """

    number: int
    """Number of the task in its lineage, from 1."""
    inputs: npt.NDArray[Any]
    """Raw inputs: uint8 [N, C, H, W] images or float32 [N, F] feature vectors."""
    labels: npt.NDArray[np.int64]
    """Class indices [N]; new classes have those behind the teacher's."""
    num_new_classes: int = 0
    """Classes that the teacher does not know; each has an instance."""

    def __post_init__(self) -> None:
        is_image = self.inputs.dtype == np.uint8 and self.inputs.ndim == _IMAGE_NDIM
        is_vector = self.inputs.dtype == np.float32 and self.inputs.ndim == _VECTOR_NDIM
        if not is_image and not is_vector:
            raise ValueError(
                f"inputs: {self.inputs.dtype} of shape {self.inputs.shape}: must be uint8 "
                "[N, C, H, W] or float32 [N, F]; convert them"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.inputs.shape[:1]:
            raise ValueError(
                f"labels: {self.labels.dtype} of shape {self.labels.shape}: must be int64 of shape "
                f"{self.inputs.shape[:1]}, one for each input; convert them"
            )
        if not len(self.labels):
            raise ValueError("inputs: no instance: a task needs at least one; do not learn it")
        if self.num_new_classes < 0:
            raise ValueError(f"num_new_classes: {self.num_new_classes}: is negative; take 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a task is learned, as its plan decided and the lineage log keeps."""

    seed: int
    """Seed of the lineage: all draws are functions of it, of the task's number and of a place."""
    epochs: int
    """Passes over the task."""
    learning_rate: float
    """Step size of the optimizer, the same for the whole task."""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: {self.epochs}: must be at least 1; take 40")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate: {self.learning_rate}: must be above 0 and finite; take 0.001"
            )
