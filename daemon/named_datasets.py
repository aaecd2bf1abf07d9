"""Data sets that have a name: scikit-learn's digits, and torchvision's by theirs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from teacherd.daemon.dataset import (
    Dataset,
    DatasetUnavailableError,
    Progress,
    build_dataset,
)
from teacherd.daemon.image_folder import gray_or_color, image_to_array

DIGITS = "digits"

_BY_TRAIN: tuple[dict[str, object], ...] = ({"train": True}, {"train": False})
_BY_SPLIT: tuple[dict[str, object], ...] = ({"split": "train"}, {"split": "test"})
_TRAIN_VAL_TEST: tuple[dict[str, object], ...] = (
    {"split": "train"},
    {"split": "val"},
    {"split": "test"},
)
TORCHVISION_PARTS: Mapping[str, tuple[dict[str, object], ...]] = {
    "CIFAR10": _BY_TRAIN,
    "CIFAR100": _BY_TRAIN,
    "Country211": ({"split": "train"}, {"split": "valid"}, {"split": "test"}),
    "DTD": _TRAIN_VAL_TEST,
    "EuroSAT": ({},),
    "FashionMNIST": _BY_TRAIN,
    "FGVCAircraft": ({"split": "trainval"}, {"split": "test"}),
    "Flowers102": _TRAIN_VAL_TEST,
    "Food101": _BY_SPLIT,
    "GTSRB": _BY_SPLIT,
    "Imagenette": ({"split": "train"}, {"split": "val"}),
    "KMNIST": _BY_TRAIN,
    "MNIST": _BY_TRAIN,
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
    "PCAM": _TRAIN_VAL_TEST,
    "STL10": _BY_SPLIT,
    "SVHN": _BY_SPLIT,
    "USPS": _BY_TRAIN,
}
"""torchvision's classification sets that download by themselves, and the parts each consists of."""


class _Part(Protocol):
    """What is used of a torchvision data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> tuple[Image.Image, int]: ...


def load_digits() -> Dataset:
    """Return the 1797 handwritten digits of scikit-learn, uint8 [N,1,8,8].

    Raises:
        DatasetUnavailableError: scikit-learn is not installed.
    """
    try:
        # Late: scikit-learn is of the extra `demo`, and takes a second to import.
        from sklearn.datasets import load_digits as load  # noqa: PLC0415
    except ImportError as error:
        raise DatasetUnavailableError(
            DIGITS,
            "comes with scikit-learn, which is not installed",
            "pip install 'teacherd[demo]'",
        ) from error
    digits = load()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # published as 0..16
    return build_dataset(DIGITS, images, digits.target, tuple(map(str, digits.target_names)))


def load_torchvision(
    name: str,
    *,
    root: Path,
    size: tuple[int, int] | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Return all parts of a torchvision data set, downloaded into `root` unless they are there.

    Args:
        name: A key of TORCHVISION_PARTS.
        root: torchvision's own layout of folders is kept below it.
        size: Height and width of the result; without it those of the first image.
        on_progress: Told after each instance.

    Raises:
        DatasetUnavailableError: The download failed.
    """
    # Late: torchvision takes two seconds to import, and most data sets do without.
    from torchvision import datasets  # noqa: PLC0415

    constructor = getattr(datasets, name)
    try:
        parts = [
            constructor(root=str(root), download=True, **arguments)
            for arguments in TORCHVISION_PARTS[name]
        ]
    except (OSError, RuntimeError, ImportError) as error:
        raise DatasetUnavailableError(
            name,
            f"could not be had under {root}: {error}",
            "check the network, or put torchvision's files there yourself, "
            "or give a folder of images or an .npz instead",
        ) from error
    return _assemble(name, parts, size, on_progress)


def _assemble(
    name: str,
    parts: Sequence[_Part],
    size: tuple[int, int] | None,
    on_progress: Progress | None,
) -> Dataset:
    first = parts[0][0][0]
    mode = gray_or_color(first)
    height, width = size or (first.height, first.width)
    total = sum(len(part) for part in parts)
    inputs = np.empty((total, len(mode), height, width), dtype=np.uint8)
    labels = np.empty(total, dtype=np.int64)
    done = 0
    for part in parts:
        for place in range(len(part)):
            image, labels[done] = part[place]
            inputs[done] = image_to_array(image, mode=mode, height=height, width=width)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    names = getattr(parts[0], "classes", None)
    return build_dataset(name, inputs, labels, tuple(map(str, names)) if names else None)
