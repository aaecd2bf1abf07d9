"""Reads a data set from an .npz file, whatever of the usual names its arrays have."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from teacherd.daemon.dataset import Dataset, DatasetError, build_dataset

_INPUT_NAMES = ("inputs", "images", "x", "data", "features")
_LABEL_NAMES = ("labels", "y", "targets")
_PARTS = ("", "train", "test")
_NAMES_TEXT = "inputs|images|x|data|features with labels|y|targets, plain or with train and test"


def load_npz(path: Path) -> Dataset:
    """Read the arrays of a file; where it has a train and a test part, the one after the other.

    Raises:
        DatasetError: The file cannot be read, or its arrays are not inputs and labels.
    """
    spec = str(path)
    arrays = _read(path)
    by_name = {_normalise(name): array for name, array in arrays.items()}
    parts = [part for part in (_part(by_name, suffix) for suffix in _PARTS) if part is not None]
    if not parts:
        raise DatasetError(
            spec, f"has the arrays {sorted(arrays)}; needs {_NAMES_TEXT}", "rename them"
        )
    if len({(inputs.shape[1:], inputs.dtype, labels.dtype.kind) for inputs, labels in parts}) > 1:
        raise DatasetError(spec, "its train and test parts differ in shape or type", "align them")
    inputs = np.concatenate([inputs for inputs, _ in parts])
    labels = np.concatenate([labels.reshape(-1) for _, labels in parts])
    return build_dataset(spec, inputs, labels, _classes(by_name))


def _read(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    fix = "write it with numpy.savez, without object arrays"
    # Asked first: of other files numpy says that they may be pickles.
    if not zipfile.is_zipfile(path):
        raise DatasetError(str(path), "is no .npz archive", fix)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(str(path), f"cannot be read: {error}", fix) from error


def _normalise(name: str) -> str:
    """Return `images_train`, `train_images` and `TrainImages`-like names as one: `images train`."""
    words = name.lower().replace("-", "_").split("_")
    return " ".join(sorted(words, key=lambda word: word in _PARTS))


def _part(
    arrays: dict[str, npt.NDArray[np.generic]], suffix: str
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]] | None:
    def find(names: tuple[str, ...]) -> npt.NDArray[np.generic] | None:
        keys = (f"{name} {suffix}".strip() for name in names)
        return next((arrays[key] for key in keys if key in arrays), None)

    inputs, labels = find(_INPUT_NAMES), find(_LABEL_NAMES)
    return None if inputs is None or labels is None else (inputs, labels)


def _classes(arrays: dict[str, npt.NDArray[np.generic]]) -> tuple[str, ...] | None:
    names = arrays.get("classes")
    return None if names is None else tuple(str(name) for name in names.reshape(-1))
