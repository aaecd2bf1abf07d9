"""Finds the data set that a user means: a name, a folder of images by class, or an .npz file."""

import difflib
from pathlib import Path

from teacherd.daemon.dataset import Dataset, DatasetError, Progress
from teacherd.daemon.image_folder import load_image_folder
from teacherd.daemon.named_datasets import (
    DIGITS,
    TORCHVISION_PARTS,
    load_digits,
    load_torchvision,
)
from teacherd.daemon.npz_dataset import load_npz

DEFAULT_ROOT = Path("data")
"""Where downloads go, below the working directory, as torchvision's own examples have it."""


def load_dataset(
    spec: str,
    *,
    root: Path | None = None,
    size: tuple[int, int] | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Load what `spec` means; something on the disk goes before a data set of the same name.

    Args:
        spec: `digits`, the path of a folder or an .npz, or a torchvision name in any case.
        root: Where torchvision's data sets are looked for and downloaded to.
        size: Height and width that images of files are brought to.
        on_progress: Told after each image that was read.

    Raises:
        DatasetError: There is no such data set, or it cannot be used.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        return load_image_folder(path, size=size, on_progress=on_progress)
    if path.is_file():
        return _load_file(path)
    if spec.lower() == DIGITS:
        return load_digits()
    known = {name.lower(): name for name in TORCHVISION_PARTS}
    if spec.lower() in known:
        return load_torchvision(
            known[spec.lower()], root=root or DEFAULT_ROOT, size=size, on_progress=on_progress
        )
    raise _unknown(spec, [DIGITS, *TORCHVISION_PARTS])


def _load_file(path: Path) -> Dataset:
    if path.suffix.lower() != ".npz":
        raise DatasetError(
            str(path), "is a file of another kind; a file must be an .npz", "numpy.savez writes one"
        )
    return load_npz(path)


def _unknown(spec: str, names: list[str]) -> DatasetError:
    lowered = {name.lower(): name for name in names}
    near = [lowered[name] for name in difflib.get_close_matches(spec.lower(), lowered, n=3)]
    meant = f"did you mean {' or '.join(near)}?" if near else f"known names: {', '.join(names)}"
    return DatasetError(spec, "is no folder, no file and no known name", meant)
