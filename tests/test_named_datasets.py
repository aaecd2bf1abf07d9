"""Tests of the data sets that have names; none of them needs a network."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from teacherd.daemon.dataset import DatasetUnavailableError
from teacherd.daemon.errors import ExitCode
from teacherd.daemon.named_datasets import TORCHVISION_PARTS, load_digits, load_torchvision

IMAGES = np.random.default_rng(11).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 3, 9], dtype=np.uint8)


def write_fashion_mnist(root: Path) -> None:
    """Write the published files with three train and two test images."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
        images, labels = IMAGES[part], LABELS[part]
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def test_the_digits_are_bytes_over_the_whole_range() -> None:
    """scikit-learn's values 0..16 become 0..255, ten classes, 1797 images of 8 x 8."""
    digits = load_digits()

    assert (1797, 1, 8, 8) == digits.inputs.shape
    assert (0, 255) == (digits.inputs.min(), digits.inputs.max())
    assert tuple("0123456789") == digits.classes
    # Published: the first image is a 0 whose first row is 0 0 5 13 9 1 0 0 of 16.
    assert 0 == digits.labels[0]
    assert_array_equal([0, 0, 80, 207, 143, 16, 0, 0], digits.inputs[0, 0, 0])


def test_the_digits_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(DatasetUnavailableError, match=r"pip install 'teacherd\[demo\]'"):
        load_digits()


def test_a_torchvision_set_is_read_from_where_it_lies(tmp_path: Path) -> None:
    """What was downloaded before is read, train part before test part, with its class names."""
    write_fashion_mnist(tmp_path)
    heard: list[tuple[int, int]] = []

    dataset = load_torchvision(
        "FashionMNIST",
        root=tmp_path,
        on_progress=lambda done, total: heard.append((done, total)),
    )

    assert_array_equal(IMAGES[:, None], dataset.inputs)
    assert_array_equal(LABELS, dataset.labels)
    assert "Ankle boot" == dataset.classes[9]
    assert heard == [(done, 5) for done in range(1, 6)]


def test_a_torchvision_set_can_be_had_in_another_size(tmp_path: Path) -> None:
    """A given height and width go before those of the images."""
    write_fashion_mnist(tmp_path)

    dataset = load_torchvision("FashionMNIST", root=tmp_path, size=(14, 10))

    assert (1, 14, 10) == dataset.input_shape


def test_a_download_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the set and the folder, what went wrong, and the ways around it."""
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415 -- two seconds, only here

    # Port 9 of loopback: nobody listens, and nothing leaves this machine.
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])

    with pytest.raises(DatasetUnavailableError, match="check the network") as caught:
        load_torchvision("FashionMNIST", root=tmp_path)

    assert "'FashionMNIST'" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert ExitCode.UNAVAILABLE == caught.value.exit_code


@pytest.mark.parametrize("name", sorted(TORCHVISION_PARTS))
def test_torchvision_has_every_set_that_is_offered(name: str) -> None:
    """A name of the table exists in the installed torchvision and takes the table's arguments."""
    import inspect  # noqa: PLC0415 -- beside its one use

    from torchvision import datasets  # noqa: PLC0415 -- two seconds, only here

    parameters = set(inspect.signature(getattr(datasets, name).__init__).parameters)

    used = {argument for part in TORCHVISION_PARTS[name] for argument in part}
    assert {"root", "download", *used} <= parameters
