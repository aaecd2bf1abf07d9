"""The drift of the demo: what changes about the inputs halfway, while the labels stay true."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from teacherd.daemon.dataset import Dataset, DatasetError

Inputs = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Drift = Callable[[Inputs], Inputs]

_CHUNK_INSTANCES = 1024  # bounds the float copies


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftConfig:
    """What changes, and how much."""

    kind: Literal["rotate", "blur"] = "rotate"
    """rotate: images turn, feature vectors turn pairwise; blur: images only."""
    angle_degrees: float = 20.0
    """Counterclockwise; 20 costs a network that never saw it a quarter of its accuracy."""
    blur_pixels: float = 1.0
    """Standard deviation of the Gaussian, in pixels; 1 smears an 8 x 8 digit clearly."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.angle_degrees):
            raise ValueError(f"angle_degrees: {self.angle_degrees} is not finite; take 20")
        if not 0 < self.blur_pixels < math.inf:
            raise ValueError(f"blur_pixels: {self.blur_pixels} is not above 0; take 1.0")


def describe_drift(config: DriftConfig) -> str:
    """Return in words what the inputs are after the drift."""
    if config.kind == "rotate":
        return f"rotated by {config.angle_degrees:g} degrees"
    unit = "pixel" if config.blur_pixels == 1 else "pixels"
    return f"blurred by {config.blur_pixels:g} {unit}"


def build_drift(config: DriftConfig, *, base: Dataset, rng: np.random.Generator) -> Drift:
    """Return the function that drifts inputs of the same form as the base's.

    Args:
        config: What changes.
        base: Feature vectors are turned in units of its standard deviations.
        rng: Draws which features are turned with which.

    Raises:
        DatasetError: Feature vectors cannot be blurred.
    """
    is_images = len(base.input_shape) == len("CHW")
    if is_images and config.kind == "rotate":
        return lambda inputs: rotate_images(inputs, config.angle_degrees)
    if is_images:
        return lambda inputs: blur_images(inputs, config.blur_pixels)
    if config.kind == "blur":
        raise DatasetError(base.name, "holds feature vectors; blur is for images", "take rotate")
    rotation = _pairwise_rotation(base.inputs, config.angle_degrees, rng)
    return lambda inputs: (inputs @ rotation.matrix + rotation.offset).astype(np.float32)


def rotate_images(images: Inputs, angle_degrees: float) -> npt.NDArray[np.uint8]:
    """Turn images [N,C,H,W] counterclockwise about their centre; black comes in at the corners."""
    height, width = images.shape[2:]
    cosine, sine = _cosine_and_sine(angle_degrees)
    # affine_grid's coordinates run from -1 to 1 along both sides, however long each is.
    backward = torch.tensor(
        [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]
    )

    def rotate(batch: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(
            backward.expand(len(batch), 2, 3), list(batch.shape), align_corners=False
        )
        return F.grid_sample(batch, grid, align_corners=False)

    return _in_chunks(images, rotate)


def blur_images(images: Inputs, blur_pixels: float) -> npt.NDArray[np.uint8]:
    """Convolve images [N,C,H,W] with a Gaussian cut at three standard deviations; edges repeat."""
    reach = math.ceil(3 * blur_pixels)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.softmax(-(places**2) / (2 * blur_pixels**2), dim=0)

    def blur(batch: torch.Tensor) -> torch.Tensor:
        planes = batch.flatten(0, 1).unsqueeze(1)
        planes = F.pad(planes, (reach, reach, reach, reach), mode="replicate")
        planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
        return planes.view_as(batch)

    return _in_chunks(images, blur)


def _in_chunks(
    images: Inputs, change: Callable[[torch.Tensor], torch.Tensor]
) -> npt.NDArray[np.uint8]:
    changed = np.empty(images.shape, dtype=np.uint8)
    with torch.inference_mode():
        for start in range(0, len(images), _CHUNK_INSTANCES):
            chunk = slice(start, start + _CHUNK_INSTANCES)
            batch = change(torch.from_numpy(images[chunk]).float())
            changed[chunk] = batch.round().clamp(0, 255).to(torch.uint8).numpy()
    return changed


@dataclass(frozen=True, slots=True)
class _AffineMap:
    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


def _pairwise_rotation(
    inputs: Inputs, angle_degrees: float, rng: np.random.Generator
) -> _AffineMap:
    """Return the map that turns features in random pairs, each in units of its deviation."""
    mean, deviation = inputs.mean(0, dtype=np.float64), inputs.std(0, dtype=np.float64)
    deviation[deviation == 0] = 1.0
    cosine, sine = _cosine_and_sine(angle_degrees)
    rotation = np.eye(len(mean))
    order = rng.permutation(len(mean))
    for first, second in zip(order[0::2], order[1::2], strict=False):  # an odd one stays
        rotation[first, first] = rotation[second, second] = cosine
        rotation[first, second], rotation[second, first] = sine, -sine
    matrix = rotation / deviation[:, None] * deviation
    return _AffineMap(matrix, mean - mean @ matrix)


def _cosine_and_sine(angle_degrees: float) -> tuple[float, float]:
    angle = math.radians(angle_degrees)
    return math.cos(angle), math.sin(angle)
