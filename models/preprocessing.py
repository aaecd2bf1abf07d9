"""Turning raw inputs into what a network sees: one scale, one mean and one deviation per channel.

Legend: N instances, B batch, C channels, H height, W width, F features.
"""

import functools
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

_IMAGE_NDIM = 4
_VECTOR_NDIM = 2
_UINT8_LEVELS = 256
_ROWS_PER_CHUNK = 4096
_CONSTANT_STD = 1e-7
"""Relative to the mean, a deviation below this is float32 rounding: the feature is constant."""
_SMALLEST_STD = 1e-30
"""Below this the reciprocal leaves float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """Normalise raw inputs as (inputs * scale - mean) / std, per channel or per feature."""

    mean: tuple[float, ...]
    """Mean of each channel (images) or feature (vectors), after scaling."""

    std: tuple[float, ...]
    """Standard deviation of each channel or feature, after scaling; above 0."""

    scale: float
    """Factor on the raw values: 1/255 for uint8 images, 1 for feature vectors."""

    def __post_init__(self) -> None:
        if not self.mean:
            raise ValueError("mean: (): needs one number per channel or feature; give at least one")
        if len(self.std) != len(self.mean):
            raise ValueError(
                f"std: has {len(self.std)} numbers, mean has {len(self.mean)}: both need one per "
                "channel or feature; give as many of each"
            )
        for name, values in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            for value in values:
                if not math.isfinite(value):
                    raise ValueError(f"{name}: {value}: must be finite; fit it on finite inputs")
                if name != "mean" and value <= 0:
                    raise ValueError(
                        f"{name}: {value}: must be above 0; use 1 to leave values alone"
                    )

    def apply(self, inputs: Tensor) -> Tensor:
        """Return the normalised float32 inputs, on their device and in their memory format.

        Args:
            inputs: Raw [B, C, H, W] or [B, F], uint8 or floating point.
        """
        num_channels = len(self.mean)
        if inputs.ndim not in (_VECTOR_NDIM, _IMAGE_NDIM) or inputs.shape[1] != num_channels:
            raise ValueError(
                f"inputs: shape {tuple(inputs.shape)}: must be [B, C, H, W] or [B, F] with "
                f"{num_channels} channels or features, as the preprocessing was fitted"
            )
        shift, factor = _constants(self, inputs.device, inputs.ndim)
        # One new tensor, worked on in place: allocating for each operation costs more than it does.
        return inputs.to(torch.float32, copy=True).sub_(shift).mul_(factor)

    @classmethod
    def fit(cls, inputs: np.ndarray) -> Self:
        """Return the preprocessing that gives these inputs mean 0 and deviation 1.

        A constant channel or feature gets deviation 1, so that it becomes 0 and a first value
        that differs is not blown up.

        Args:
            inputs: uint8 [N, C, H, W] images, or floating-point [N, F] feature vectors.
        """
        if inputs.size == 0:
            raise ValueError(
                f"inputs: shape {inputs.shape}: empty; fit needs at least one instance"
            )
        if inputs.dtype == np.uint8 and inputs.ndim == _IMAGE_NDIM:
            scale = 1 / (_UINT8_LEVELS - 1)
            mean, std = _moments_of_images(inputs)
        elif np.issubdtype(inputs.dtype, np.floating) and inputs.ndim == _VECTOR_NDIM:
            scale = 1.0
            mean, std = _moments_of_features(inputs)
        else:
            raise ValueError(
                f"inputs: {inputs.dtype} of shape {inputs.shape}: must be uint8 [N, C, H, W] or "
                "floating-point [N, F]; convert them"
            )
        constant = std <= np.maximum(_SMALLEST_STD, _CONSTANT_STD * np.abs(mean))
        std = np.where(constant, 1.0 / scale, std)
        return cls(
            mean=tuple((mean * scale).tolist()), std=tuple((std * scale).tolist()), scale=scale
        )


# Cached because it is asked for at every step, where building tensors anew would cost a copy to
# the device each time.
@functools.lru_cache(maxsize=64)
def _constants(
    preprocessing: Preprocessing, device: torch.device, ndim: int
) -> tuple[Tensor, Tensor]:
    """Return shift and factor so that (inputs - shift) * factor is the normalised input."""
    shape = (1, -1) if ndim == _VECTOR_NDIM else (1, -1, 1, 1)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
    std = torch.tensor(preprocessing.std, dtype=torch.float64)
    shift = (mean / preprocessing.scale).view(shape)
    factor = (preprocessing.scale / std).view(shape)
    # Made outside inference mode: a tensor born inside could not serve a later training step.
    with torch.inference_mode(mode=False):
        return shift.to(device, torch.float32), factor.to(device, torch.float32)


def _moments_of_images(inputs_NCHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation per channel, exactly, from the histogram of grey levels."""
    levels = np.arange(_UINT8_LEVELS, dtype=np.float64)
    num_channels = inputs_NCHW.shape[1]
    counts = np.zeros((num_channels, _UINT8_LEVELS), dtype=np.int64)
    for start in range(0, len(inputs_NCHW), _ROWS_PER_CHUNK):
        chunk = inputs_NCHW[start : start + _ROWS_PER_CHUNK]
        for channel in range(num_channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=_UINT8_LEVELS)
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    variance = (share * (levels - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)


def _moments_of_features(inputs_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation per feature, in two passes of float64."""
    if not np.isfinite(inputs_NF).all():
        raise ValueError("inputs: NaN or infinity among the features; drop or mend those rows")
    mean = inputs_NF.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(inputs_NF), _ROWS_PER_CHUNK):
        deviation = inputs_NF[start : start + _ROWS_PER_CHUNK].astype(np.float64) - mean
        squares += (deviation**2).sum(axis=0)
    return mean, np.sqrt(squares / len(inputs_NF))
