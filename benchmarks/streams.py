"""Streams that drift, for the benchmarks that need some: turned images, and Electricity in time."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


def turned(
    images: npt.NDArray[np.uint8], degrees: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Return each image [C, H, W] of a batch turned by its own angle, black coming in."""
    angles = torch.from_numpy(np.deg2rad(degrees)).float()
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = [torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(torch.from_numpy(images).float(), grid, align_corners=False)
    return np.asarray(moved.round().clamp(0, 255).byte().numpy())


def load_electricity(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return features and labels of Electricity (Elec2), in the order of time."""
    with np.load(folder / "stream_electricity.npz") as file:
        return file["features"], file["labels"].astype(np.int64)
