"""Tests of finding the data set that a user means."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teacherd.daemon.dataset import DatasetError
from teacherd.daemon.datasets import load_dataset

IMAGES = np.zeros((2, 4, 4), dtype=np.uint8)


def test_digits_are_found_in_any_case() -> None:
    """The name of the data set that needs no download is not case-sensitive."""
    assert 1797 == len(load_dataset("Digits"))


def test_a_path_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called like a known data set is the user's own."""
    for name in ("a", "b"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / "digits" / name / "0.png")
    monkeypatch.chdir(tmp_path)

    assert ("a", "b") == load_dataset("digits").classes


def test_a_file_is_read_as_npz(tmp_path: Path) -> None:
    """A path of an .npz file means that file."""
    np.savez(tmp_path / "set.npz", x=IMAGES, y=[0, 1])

    assert (1, 4, 4) == load_dataset(str(tmp_path / "set.npz")).input_shape


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The error says which kind of file is meant."""
    path = tmp_path / "set.csv"
    path.write_text("1,2\n")

    with pytest.raises(DatasetError, match=r"must be an \.npz"):
        load_dataset(str(path))


def test_a_misspelt_name_is_answered_with_near_ones() -> None:
    """A slip of the finger is told what was meant."""
    with pytest.raises(DatasetError, match=r"did you mean .*FashionMNIST"):
        load_dataset("fashion-mnist")


def test_an_unknown_name_is_answered_with_all_known_ones() -> None:
    """Where nothing is near, the whole list is shown."""
    with pytest.raises(DatasetError, match="known names: digits, CIFAR10"):
        load_dataset("qqqq")


def test_torchvision_names_are_found_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is understood: what fails is the download, under the given root."""
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415 -- two seconds, only here

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])

    with pytest.raises(DatasetError, match=r"'FashionMNIST': could not be had under .*elsewhere"):
        load_dataset("fashionmnist", root=tmp_path / "elsewhere")
