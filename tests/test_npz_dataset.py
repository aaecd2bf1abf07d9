"""Tests of reading data sets from .npz files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from teacherd.daemon.dataset import DatasetError
from teacherd.daemon.npz_dataset import load_npz

IMAGES = np.random.default_rng(3).integers(0, 256, (6, 4, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("inputs_name", "labels_name"), [("inputs", "labels"), ("images", "y"), ("X", "Y")]
)
def test_the_usual_names_are_understood(tmp_path: Path, inputs_name: str, labels_name: str) -> None:
    """Inputs and labels are found under any of the names that people give them."""
    np.savez(tmp_path / "set.npz", **{inputs_name: IMAGES, labels_name: LABELS})

    dataset = load_npz(tmp_path / "set.npz")

    assert_array_equal(IMAGES[:, None], dataset.inputs)
    assert_array_equal(LABELS, dataset.labels)


@pytest.mark.parametrize("form", ["{part}_{name}", "{name}_{part}"])
def test_a_test_part_follows_the_train_part(tmp_path: Path, form: str) -> None:
    """Both parts are read, as one data set, in a fixed order: whoever splits, splits anew."""
    arrays = {
        form.format(part="test", name="images"): IMAGES[4:],
        form.format(part="test", name="labels"): LABELS[4:],
        form.format(part="train", name="images"): IMAGES[:4],
        form.format(part="train", name="labels"): LABELS[:4],
    }
    np.savez_compressed(tmp_path / "set.npz", **arrays)

    dataset = load_npz(tmp_path / "set.npz")

    assert_array_equal(IMAGES[:, None], dataset.inputs)
    assert_array_equal(LABELS, dataset.labels)


def test_classes_are_named_by_the_file(tmp_path: Path) -> None:
    """An array `classes` gives the names, in the order of the labels."""
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS, classes=np.array(["a", "b", "c"]))

    assert ("a", "b", "c") == load_npz(tmp_path / "set.npz").classes


def test_a_file_of_other_names_is_told_which_are_needed(tmp_path: Path) -> None:
    """The error lists what is there and what is looked for."""
    np.savez(tmp_path / "set.npz", pictures=IMAGES, labels=LABELS)

    with pytest.raises(DatasetError, match=r"\['labels', 'pictures'\]; needs inputs\|images"):
        load_npz(tmp_path / "set.npz")


def test_parts_of_different_shape_are_refused(tmp_path: Path) -> None:
    """A train and a test part that do not fit together are no one data set."""
    np.savez(
        tmp_path / "set.npz",
        train_x=IMAGES,
        train_y=LABELS,
        test_x=IMAGES[:, :3],
        test_y=LABELS,
    )

    with pytest.raises(DatasetError, match="differ"):
        load_npz(tmp_path / "set.npz")


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    """Object arrays, which only pickle can read, are refused."""
    np.savez(tmp_path / "set.npz", x=IMAGES, y=np.array([{}] * 6, dtype=object))

    with pytest.raises(DatasetError, match="allow_pickle=False"):
        load_npz(tmp_path / "set.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x93NUMPY\x01\x00v\x00{}"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error says so instead of showing numpy's guess that it may be a pickle."""
    path = tmp_path / "set.npz"
    path.write_bytes(content)

    with pytest.raises(DatasetError, match=r"no \.npz archive"):
        load_npz(path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    """Half a file is an error of the data set, not a traceback."""
    path = tmp_path / "set.npz"
    np.savez(path, x=IMAGES, y=LABELS)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)

    with pytest.raises(DatasetError, match="cannot be read"):
        load_npz(path)
