"""Reads a data set from a folder whose subfolders are the classes and hold images."""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from teacherd.daemon.dataset import Dataset, DatasetError, Progress, build_dataset

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
_GRAY_MODES = frozenset({"1", "L", "I", "I;16"})


def load_image_folder(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Read every image below each class's folder into one array.

    Args:
        path: Its subfolders are the classes, in alphabetical order.
        size: Height and width that all images are brought to; without it the most common one.
        on_progress: Told after each image.

    Returns:
        One channel if every image is gray, else three.

    Raises:
        DatasetError: There are no classes or no images, or an image cannot be read.
    """
    folders = sorted(
        entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._"
    )
    files = [
        (file, label) for label, folder in enumerate(folders) for file in _images_below(folder)
    ]
    empty = sorted(
        {folder.name for folder in folders} - {folders[label].name for _, label in files}
    )
    if not files or empty:
        raise DatasetError(
            str(path),
            f"no images in {empty or 'it'}; a data set is a folder that holds one folder of images "
            "for each class",
            "give such a folder",
        )
    height, width, mode = _common_form(files)
    if size is not None:
        height, width = size
    inputs = np.empty((len(files), len(mode), height, width), dtype=np.uint8)
    for place, (file, _) in enumerate(files):
        inputs[place] = _read(file, mode, height, width)
        if on_progress is not None:
            on_progress(place + 1, len(files))
    labels = np.array([label for _, label in files], dtype=np.int64)
    return build_dataset(str(path), inputs, labels, tuple(folder.name for folder in folders))


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file()
    )


def _common_form(files: list[tuple[Path, int]]) -> tuple[int, int, str]:
    """Return the most common height and width, and L if every image is gray, else RGB."""
    sizes: Counter[tuple[int, int]] = Counter()
    mode = "L"
    for file, _ in files:
        try:
            with Image.open(file) as image:
                sizes[image.size] += 1
                mode = mode if gray_or_color(image) == "L" else "RGB"
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise _unreadable(file, error) from error
    # The larger of two equally common sizes, so that the result does not hang on the files' order.
    width, height = max(sizes, key=lambda size: (sizes[size], size))
    return height, width, mode


def image_to_array(
    image: Image.Image, *, mode: str, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 [C,H,W], with one channel for mode L and three for RGB."""
    pixels = _to_eight_bits(image).convert(mode)
    if pixels.size != (width, height):
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(pixels, dtype=np.uint8)
    return array[np.newaxis] if mode == "L" else array.transpose(2, 0, 1)


def gray_or_color(image: Image.Image) -> str:
    """Return the mode that keeps what an image shows: L or RGB."""
    return "L" if image.mode in _GRAY_MODES else "RGB"


def _to_eight_bits(image: Image.Image) -> Image.Image:
    # 16 bits a pixel: Pillow's own conversion would clip nearly all of it to white.
    if image.mode not in {"I", "I;16"}:
        return image
    values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
    return Image.fromarray((values >> 8).astype(np.uint8))


def _read(file: Path, mode: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return image_to_array(image, mode=mode, height=height, width=width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DatasetError:
    return DatasetError(
        str(file.parent), f"{file.name} cannot be read: {error}", "repair or remove that file"
    )
