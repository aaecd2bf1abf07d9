"""Tests of the demo's drift, against naive versions and exact cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from teacherd.daemon.dataset import Dataset, DatasetError, build_dataset
from teacherd.daemon.demo_drift import (
    DriftConfig,
    blur_images,
    build_drift,
    describe_drift,
    rotate_images,
)

RNG = np.random.default_rng(2)
IMAGES = RNG.integers(0, 256, (3, 2, 6, 9), dtype=np.uint8)


def naive_rotation(plane: np.ndarray, angle_degrees: float) -> np.ndarray:
    """Look every pixel up, bilinearly, where it comes from; outside is black."""
    height, width = plane.shape
    turned = np.zeros((height, width))
    cosine, sine = math.cos(math.radians(angle_degrees)), math.sin(math.radians(angle_degrees))
    for row, column in np.ndindex(height, width):
        down, right = row - (height - 1) / 2, column - (width - 1) / 2
        from_row = (height - 1) / 2 + cosine * down + sine * right
        from_column = (width - 1) / 2 + cosine * right - sine * down
        for r, c in np.ndindex(height, width):
            weight = max(0, 1 - abs(r - from_row)) * max(0, 1 - abs(c - from_column))
            turned[row, column] += weight * plane[r, c]
    return turned


def naive_blur(plane: np.ndarray, blur_pixels: float) -> np.ndarray:
    """Average every pixel's neighbours by a Gaussian, the edge's pixels repeated outside."""
    reach = math.ceil(3 * blur_pixels)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * blur_pixels**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(plane.astype(float), reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return np.einsum("hwij,ij->hw", windows, kernel)


def vectors(num_features: int) -> Dataset:
    """Make feature vectors of very different scales, one of them constant."""
    inputs = RNG.normal(size=(50, num_features)) * 10.0 ** np.arange(num_features)
    inputs[:, 0] = 3.0
    return build_dataset("table", inputs, np.arange(50) % 2)


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(-200, 200))
def test_rotation_equals_the_naive_one(angle: float) -> None:
    """Counterclockwise, about the centre, bilinear, in pixels: also where images are not square."""
    turned = rotate_images(IMAGES, angle)

    for image, channel in np.ndindex(3, 2):
        expected = naive_rotation(IMAGES[image, channel], angle)
        assert_allclose(turned[image, channel], expected, atol=0.51)


def test_a_quarter_turn_is_exact() -> None:
    """By 90 degrees a square image's pixels only change their places, counterclockwise."""
    square = RNG.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)

    assert_array_equal(np.rot90(square, axes=(2, 3)), rotate_images(square, 90.0))


@pytest.mark.parametrize("blur_pixels", [0.4, 1.0, 1.7])
def test_blur_equals_the_naive_one(blur_pixels: float) -> None:
    """A Gaussian of that deviation, with the edges repeated."""
    blurred = blur_images(IMAGES, blur_pixels)

    for image, channel in np.ndindex(3, 2):
        expected = naive_blur(IMAGES[image, channel], blur_pixels)
        assert_allclose(blurred[image, channel], expected, atol=0.51)


@pytest.mark.parametrize("kind", ["rotate", "blur"])
def test_drift_does_not_hang_on_the_batch(kind: str) -> None:
    """An instance drifts alike alone and among thousands: base, held-out and stream agree."""
    many = RNG.integers(0, 256, (1500, 1, 4, 4), dtype=np.uint8)
    config = DriftConfig(kind=kind)
    change = build_drift(
        config, base=build_dataset("x", many, np.arange(1500) % 2), rng=np.random.default_rng(0)
    )

    assert_array_equal(change(many)[1400:1401], change(many[1400:1401]))


def test_vectors_turn_in_units_of_their_deviations() -> None:
    """Means stay; in standard units lengths stay and each pair turns by the angle."""
    base = vectors(6)
    change = build_drift(DriftConfig(angle_degrees=40), base=base, rng=np.random.default_rng(1))
    mean, deviation = base.inputs.mean(0), base.inputs.std(0)
    deviation[0] = 1
    before = (base.inputs - mean) / deviation

    after = (change(base.inputs) - mean) / deviation

    assert_allclose(np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1), rtol=1e-3)
    cosine = (before * after).sum() / (before**2).sum()
    assert_allclose(math.cos(math.radians(40)), cosine, atol=1e-3)


def test_vectors_of_one_seed_drift_alike() -> None:
    """The features that turn together are a function of the seed alone."""
    base = vectors(7)

    def drifted(seed: int) -> np.ndarray:
        return build_drift(DriftConfig(), base=base, rng=np.random.default_rng(seed))(base.inputs)

    assert drifted(1).dtype == np.float32
    assert_array_equal(drifted(1), drifted(1))
    assert not np.array_equal(drifted(1), drifted(2))


def test_vectors_cannot_be_blurred() -> None:
    """The error says what to take instead."""
    with pytest.raises(DatasetError, match="blur is for images; take rotate"):
        build_drift(DriftConfig(kind="blur"), base=vectors(4), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DriftConfig(angle_degrees=20), "rotated by 20 degrees"),
        (DriftConfig(kind="blur", blur_pixels=1.5), "blurred by 1.5 pixels"),
    ],
)
def test_a_drift_says_what_it_is(config: DriftConfig, words: str) -> None:
    """Plot and table use these words after `is`."""
    assert words == describe_drift(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("angle_degrees", math.nan), ("blur_pixels", 0.0), ("blur_pixels", math.inf)],
)
def test_settings_that_mean_nothing_are_refused(field: str, value: float) -> None:
    """The error begins with the field and shows the value."""
    with pytest.raises(ValueError, match=f"^{field}: {value}"):
        DriftConfig(**{field: value})
