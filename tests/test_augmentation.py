"""Tests of augmentation against slicing one image after the other."""

import numpy as np
import pytest
import torch

from teacherd.models.augmentation import AugmentationConfig, augment

SHIFT_AND_MIRROR = AugmentationConfig(crop_padding=2, horizontal_flip=True)


def generator(seed: int = 0) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def random_images(dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Return images that are not square and have two channels."""
    return torch.randint(1, 255, (20, 2, 5, 7), generator=generator(9)).to(dtype)


def naive_augment(images: torch.Tensor, config: AugmentationConfig) -> torch.Tensor:
    """Pad, slice and mirror each image on its own, with the same draws."""
    source, p = generator(), config.crop_padding
    shifts = torch.randint(2 * p + 1, (len(images), 2), generator=source).tolist()
    mirrored = torch.rand(len(images), generator=source) < 0.5
    result = []
    for image, (down, right), mirror in zip(images.numpy(), shifts, mirrored, strict=True):
        padded = np.pad(image, ((0, 0), (p, p), (p, p)))
        window = padded[:, down : down + image.shape[1], right : right + image.shape[2]]
        flips = config.horizontal_flip and bool(mirror)
        result.append(torch.from_numpy(np.flip(window, 2).copy() if flips else window))
    return torch.stack(result)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    "config",
    [
        SHIFT_AND_MIRROR,
        AugmentationConfig(crop_padding=2),
        AugmentationConfig(horizontal_flip=True),
        AugmentationConfig(),
    ],
)
def test_augmented_images_are_shifted_windows_and_mirror_images(
    config: AugmentationConfig, dtype: torch.dtype
) -> None:
    """Exactly what slicing one by one gives, in both types; black comes in at the edges."""
    images = random_images(dtype)
    before = images.clone()
    found = augment(images, config, generator())

    assert torch.equal(naive_augment(images, config), found)
    assert torch.equal(before, images)
    assert dtype == found.dtype


def test_images_of_a_batch_move_differently() -> None:
    """Equal images do not all get the same shift."""
    images = random_images()[:1].expand(20, -1, -1, -1)
    found = augment(images, SHIFT_AND_MIRROR, generator())

    assert len({image.numpy().tobytes() for image in found}) > 10


def test_nothing_is_augmented_by_default() -> None:
    """What keeps a label true depends on the classes, so it must be asked for."""
    assert not AugmentationConfig().changes_anything
    assert SHIFT_AND_MIRROR.changes_anything


def test_a_negative_padding_is_refused_by_name() -> None:
    """The error names field and value."""
    with pytest.raises(ValueError, match="crop_padding: -1: is negative"):
        AugmentationConfig(crop_padding=-1)
