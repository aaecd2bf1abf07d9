"""Batched augmentation of raw images on their device: shifts and mirror images.

Legend: B batch, C channels, H height, W width, P padding.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """What is changed about an image each time it is learned; nothing by default.

    Off, because what keeps a label true depends on the classes: a mirrored digit is no digit.
    """

    crop_padding: int = 0
    """Pixels of black put around the image before a crop of its size is taken at random, so that
    it moves by at most as many; 4 is usual for 32x32 images."""
    horizontal_flip: bool = False
    """Whether half of the images, at random, are mirrored left to right."""

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding: {self.crop_padding}: is negative; 0 crops nothing")

    @property
    def changes_anything(self) -> bool:
        """Say whether images are changed at all."""
        return self.crop_padding > 0 or self.horizontal_flip


def augment(images_BCHW: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Return the images, each shifted and mirrored on its own.

    Args:
        images_BCHW: Raw or normalised; not changed. Anything, where nothing is to be changed.
        config: What to change.
        generator: Draws for all images in their order, whichever are on: shifts, then mirrors.
    """
    if not config.changes_anything:
        return images_BCHW
    num_images = len(images_BCHW)
    device = images_BCHW.device
    padding = config.crop_padding
    shifts_B2 = torch.randint(2 * padding + 1, (num_images, 2), generator=generator, device=device)
    is_mirrored_B = torch.rand(num_images, generator=generator, device=device) < 0.5  # noqa: PLR2004 - a fair coin
    if padding:
        images_BCHW = _crop(images_BCHW, shifts_B2, padding)
    if config.horizontal_flip:
        mirrored = is_mirrored_B.view(-1, 1, 1, 1)
        images_BCHW = torch.where(mirrored, images_BCHW.flip(3), images_BCHW)
    return images_BCHW


def _crop(images_BCHW: Tensor, shifts_B2: Tensor, padding: int) -> Tensor:
    """Take from each padded image the window that begins at its shift."""
    height, width = images_BCHW.shape[2:]
    padded = F.pad(images_BCHW, (padding,) * 4)
    # A view of all windows: [B, C, 2P+1, 2P+1, H, W]; only the chosen ones are copied.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    every = torch.arange(len(images_BCHW), device=images_BCHW.device)
    return windows[every, :, shifts_B2[:, 0], shifts_B2[:, 1]]
