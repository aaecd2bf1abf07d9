"""Tests of reading data sets from folders of images by class."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from teacherd.daemon.dataset import DatasetError
from teacherd.daemon.image_folder import load_image_folder

RNG = np.random.default_rng(5)
GRAY = RNG.integers(0, 256, (4, 6, 5), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write one image losslessly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_folders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    """Each image has the class of its folder, however deep below it; gray stays one channel."""
    save(tmp_path / "dog" / "1.png", GRAY[1])
    save(tmp_path / "cat" / "deep" / "0.png", GRAY[0])
    save(tmp_path / "dog" / "2.PNG", GRAY[2])
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("no image")

    dataset = load_image_folder(tmp_path)

    assert ("cat", "dog") == dataset.classes
    assert_array_equal([0, 1, 1], dataset.labels)
    assert_array_equal(GRAY[:3, None], dataset.inputs)


def test_one_color_image_makes_the_set_color(tmp_path: Path) -> None:
    """Gray images among colour ones get three equal channels."""
    save(tmp_path / "a" / "0.png", GRAY[0])
    save(tmp_path / "b" / "1.png", COLOR[1])

    dataset = load_image_folder(tmp_path)

    assert_array_equal(np.broadcast_to(GRAY[0], (3, 6, 5)), dataset.inputs[0])
    assert_array_equal(COLOR[1].transpose(2, 0, 1), dataset.inputs[1])


def test_sizes_that_differ_become_the_most_common_one(tmp_path: Path) -> None:
    """Images of the common size keep their pixels; the others are resized to it."""
    save(tmp_path / "a" / "0.png", GRAY[0])
    save(tmp_path / "b" / "1.png", GRAY[1])
    save(tmp_path / "b" / "2.png", np.full((30, 40), 200, dtype=np.uint8))

    dataset = load_image_folder(tmp_path)

    assert_array_equal(GRAY[:2, None], dataset.inputs[:2])
    assert_array_equal(np.full((1, 6, 5), 200), dataset.inputs[2])


def test_a_given_size_goes_before_the_common_one(tmp_path: Path) -> None:
    """Height and width are in that order."""
    save(tmp_path / "a" / "0.png", GRAY[0])
    save(tmp_path / "b" / "1.png", GRAY[1])

    assert (1, 8, 3) == load_image_folder(tmp_path, size=(8, 3)).input_shape


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path: Path) -> None:
    """The upper eight bits remain, so that what was gray does not turn white."""
    deep = (GRAY[0].astype(np.uint16) << 8) + 99
    save(tmp_path / "a" / "0.png", deep)
    save(tmp_path / "b" / "1.png", GRAY[1])

    assert_array_equal(GRAY[:2, None], load_image_folder(tmp_path).inputs)


def test_progress_is_told_image_by_image(tmp_path: Path) -> None:
    """The callback hears of each image, and how many there are."""
    for place in range(3):
        save(tmp_path / "ab"[place % 2] / f"{place}.png", GRAY[place])
    heard: list[tuple[int, int]] = []

    load_image_folder(tmp_path, on_progress=lambda done, total: heard.append((done, total)))

    assert [(1, 3), (2, 3), (3, 3)] == heard


def test_a_class_without_images_is_an_error(tmp_path: Path) -> None:
    """An empty folder is more likely a wrong path than a class to be learned."""
    save(tmp_path / "a" / "0.png", GRAY[0])
    save(tmp_path / "b" / "1.png", GRAY[1])
    (tmp_path / "c").mkdir()

    with pytest.raises(DatasetError, match=r"no images in \['c'\]"):
        load_image_folder(tmp_path)


def test_a_folder_of_images_without_classes_is_an_error(tmp_path: Path) -> None:
    """Images that lie directly in the folder have no class."""
    save(tmp_path / "0.png", GRAY[0])

    with pytest.raises(DatasetError, match="one folder of images for each class"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_broken_image_is_named(tmp_path: Path, keep: int) -> None:
    """Whether its header or its pixels are cut off, the error says which file it is."""
    save(tmp_path / "a" / "0.png", GRAY[0])
    broken = tmp_path / "b" / "broken.png"
    save(broken, GRAY[1])
    broken.write_bytes(broken.read_bytes()[:keep])

    with pytest.raises(DatasetError, match=r"broken\.png cannot be read"):
        load_image_folder(tmp_path)
