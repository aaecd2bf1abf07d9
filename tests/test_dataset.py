"""Tests of the forms that data sets are brought into, and of the rules that they are held to."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from teacherd.daemon.dataset import DatasetError, build_dataset
from teacherd.daemon.errors import ExitCode

LABELS = np.array([0, 1, 0, 1])
RNG = np.random.default_rng(7)
GRAY_NHW = RNG.integers(0, 256, (4, 5, 6), dtype=np.uint8)
COLOR_NHWC = RNG.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


def test_gray_images_get_a_channel() -> None:
    """[N,H,W] becomes [N,1,H,W] with the same pixels."""
    dataset = build_dataset("x", GRAY_NHW, LABELS)

    assert (1, 5, 6) == dataset.input_shape
    assert_array_equal(GRAY_NHW[:, None], dataset.inputs)


def test_channels_come_first() -> None:
    """[N,H,W,C] is transposed; [N,C,H,W] is left as it is; both end contiguous."""
    last = build_dataset("x", COLOR_NHWC, LABELS)
    first = build_dataset("x", last.inputs, LABELS)

    assert_array_equal(COLOR_NHWC.transpose(0, 3, 1, 2), last.inputs)
    assert_array_equal(last.inputs, first.inputs)
    assert last.inputs.flags.c_contiguous


def test_vectors_become_float32() -> None:
    """Whatever numbers a table holds, the networks get float32 [N,F]."""
    dataset = build_dataset("x", np.arange(12).reshape(4, 3), LABELS)

    assert dataset.inputs.dtype == np.float32
    assert_array_equal(np.arange(12).reshape(4, 3), dataset.inputs)


def test_classes_are_numbered_when_nothing_names_them() -> None:
    """A class without a name is called by its number, also one that no instance has."""
    dataset = build_dataset("x", GRAY_NHW, np.array([0, 3, 0, 3]))

    assert ("0", "1", "2", "3") == dataset.classes
    assert_array_equal([0, 3, 0, 3], dataset.labels)


def test_labels_may_be_names() -> None:
    """Names become places in `classes`: the given order, else the alphabetical one."""
    names = np.array(["dog", "cat", "dog", "cat"])
    alphabetical = build_dataset("x", GRAY_NHW, names)
    given = build_dataset("x", GRAY_NHW, names, ("dog", "bird", "cat"))

    assert ("cat", "dog") == alphabetical.classes
    assert_array_equal([1, 0, 1, 0], alphabetical.labels)
    assert_array_equal([0, 2, 0, 2], given.labels)


def test_labels_may_be_a_column() -> None:
    """[N,1], as some libraries keep labels, is read as [N]."""
    assert_array_equal(LABELS, build_dataset("x", GRAY_NHW, LABELS[:, None]).labels)


def test_taking_places_takes_inputs_and_labels_together() -> None:
    """A part has the instances of those places, in that order, and the same classes."""
    part = build_dataset("x", GRAY_NHW, LABELS).take(np.array([3, 0]))

    assert 2 == len(part)
    assert_array_equal(GRAY_NHW[[3, 0], None], part.inputs)
    assert_array_equal([1, 0], part.labels)
    assert ("0", "1") == part.classes


@pytest.mark.parametrize(
    ("inputs", "labels", "classes", "rule"),
    [
        (GRAY_NHW, LABELS[:3], None, "4 inputs and 3 labels"),
        (GRAY_NHW[:0], LABELS[:0], None, "0 inputs and 0 labels"),
        (GRAY_NHW.astype(np.float64), LABELS, None, "images are float64"),
        (COLOR_NHWC[..., :2], LABELS, None, r"shape \[4, 5, 6, 2\]"),
        (np.zeros(4, dtype=np.uint8), LABELS, None, r"shape \[4\]"),
        (np.zeros((4, 1, 0, 5), dtype=np.uint8), LABELS, None, r"shape \[4, 1, 0, 5\]"),
        (np.array([["a"], ["b"], ["c"], ["d"]]), LABELS, None, "features are numbers"),
        (np.array([[0.0], [np.nan], [1.0], [2.0]]), LABELS, None, "NaN or infinite"),
        (np.array([[0.0], [1e300], [1.0], [2.0]]), LABELS, None, "NaN or infinite"),
        (GRAY_NHW, LABELS - 1, None, r"from -1 to 0; they must lie in 0\.\.3"),
        (GRAY_NHW, LABELS * 1_000_000, None, "from 0 to 1000000"),
        (GRAY_NHW, LABELS + 1, ("a", "b"), r"from 1 to 2; they must lie in 0\.\.1"),
        (GRAY_NHW, LABELS.astype(np.float32), None, "labels are float32"),
        (GRAY_NHW, np.array(["a", "b", "a", "b"]), ("a", "c"), r"labels \['b'\]"),
        (GRAY_NHW, LABELS * 0, None, "a classifier needs two"),
    ],
)
def test_arrays_of_another_form_are_refused(
    inputs: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] | None, rule: str
) -> None:
    """The error names the data set, and says which rule was broken by what."""
    with pytest.raises(DatasetError, match=rule) as caught:
        build_dataset("my-set", inputs, labels, classes)

    assert "'my-set'" in str(caught.value)
    assert ExitCode.USAGE == caught.value.exit_code
