"""Preprocessing: fitted moments, the normalised result, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from teacherd.models.preprocessing import Preprocessing


def normalise_slowly(inputs: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Normalise channel by channel in float64: the definition, written out."""
    result = inputs.astype(np.float64) * preprocessing.scale
    for channel, (mean, std) in enumerate(zip(preprocessing.mean, preprocessing.std, strict=True)):
        result[:, channel] = (result[:, channel] - mean) / std
    return result


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=5),
        elements=st.integers(0, 255),
    )
)
@settings(max_examples=50, deadline=None)
def test_images_are_fitted_and_normalised_as_the_definition_says(images: np.ndarray) -> None:
    """For any images, fit and apply equal numpy's mean and std per channel."""
    preprocessing = Preprocessing.fit(images)

    mean = (images / 255).mean(axis=(0, 2, 3))
    std = (images / 255).std(axis=(0, 2, 3))
    np.testing.assert_allclose(preprocessing.mean, mean, atol=1e-12)
    np.testing.assert_allclose(preprocessing.std, np.where(std < 1e-9, 1.0, std), atol=1e-9)
    np.testing.assert_allclose(
        preprocessing.apply(torch.from_numpy(images)).numpy(),
        normalise_slowly(images, preprocessing),
        atol=1e-4,
        rtol=1e-5,
    )


def test_features_far_from_zero_keep_their_precision() -> None:
    """A feature around one million with deviation one is normalised without cancellation."""
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((5000, 3)) + np.array([0.0, 1e6, -50.0])).astype(np.float32)

    preprocessing = Preprocessing.fit(features)
    normalised = preprocessing.apply(torch.from_numpy(features)).numpy()

    assert preprocessing.scale == 1.0
    np.testing.assert_allclose(normalised.mean(axis=0), 0.0, atol=0.1)
    np.testing.assert_allclose(normalised.std(axis=0), 1.0, atol=1e-3)


def test_fit_in_chunks_equals_fit_at_once() -> None:
    """The moments do not depend on how many rows are looked at together."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((9001, 2)).astype(np.float32)

    preprocessing = Preprocessing.fit(features)

    np.testing.assert_allclose(
        preprocessing.std, features.astype(np.float64).std(axis=0), rtol=1e-9
    )


def test_a_constant_channel_becomes_zero_and_a_deviating_value_stays_moderate() -> None:
    """What never varied in fitting must not explode when it varies later."""
    images = np.zeros((4, 2, 3, 3), dtype=np.uint8)
    images[:, 0] = np.arange(9).reshape(3, 3)

    preprocessing = Preprocessing.fit(images)
    later = torch.full((1, 2, 3, 3), 255, dtype=torch.uint8)

    assert torch.equal(torch.zeros(4, 3, 3), preprocessing.apply(torch.from_numpy(images))[:, 1])
    assert torch.allclose(torch.ones(1, 3, 3), preprocessing.apply(later)[:, 1])


def test_apply_leaves_its_input_alone_and_keeps_the_memory_format() -> None:
    """The raw batch may be used again, float32 included, and channels_last stays channels_last."""
    preprocessing = Preprocessing(mean=(0.5, 0.5), std=(2.0, 2.0), scale=1.0)
    inputs = torch.rand(3, 2, 4, 4).to(memory_format=torch.channels_last)
    before = inputs.clone()

    normalised = preprocessing.apply(inputs)

    assert torch.equal(before, inputs)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


def test_apply_in_inference_mode_does_not_spoil_later_training() -> None:
    """Constants cached while serving must still serve a step that needs gradients."""
    preprocessing = Preprocessing(mean=(0.25,), std=(0.75,), scale=1.0)
    with torch.inference_mode():
        preprocessing.apply(torch.rand(1, 1))

    inputs = torch.rand(2, 1, requires_grad=True)
    preprocessing.apply(inputs).sum().backward()

    assert inputs.grad is not None
    assert torch.allclose(torch.full((2, 1), 1 / 0.75), inputs.grad)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mean": (), "std": (), "scale": 1.0}, "mean"),
        ({"mean": (0.0,), "std": (1.0, 1.0), "scale": 1.0}, "std"),
        ({"mean": (0.0,), "std": (0.0,), "scale": 1.0}, "std"),
        ({"mean": (float("nan"),), "std": (1.0,), "scale": 1.0}, "mean"),
        ({"mean": (0.0,), "std": (1.0,), "scale": -1.0}, "scale"),
        ({"mean": (0.0,), "std": (1.0,), "scale": float("inf")}, "scale"),
    ],
)
def test_bad_constants_are_refused_by_name(arguments: dict[str, object], named: str) -> None:
    """Each error begins with the field it is about."""
    with pytest.raises(ValueError, match=f"^{named}: "):
        Preprocessing(**arguments)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((0, 3), dtype=np.float32),
        np.zeros((2, 3), dtype=np.int64),
        np.zeros((2, 1, 4, 4), dtype=np.float32),
        np.zeros((2, 3, 4), dtype=np.uint8),
        np.array([[1.0], [np.nan]], dtype=np.float32),
        np.array([[1.0], [np.inf]], dtype=np.float32),
    ],
)
def test_inputs_that_cannot_be_fitted_are_refused(inputs: np.ndarray) -> None:
    """Empty, oddly typed, oddly shaped and non-finite inputs raise ValueError."""
    with pytest.raises(ValueError, match=r"^inputs: "):
        Preprocessing.fit(inputs)


def test_inputs_of_another_shape_are_refused() -> None:
    """A one-channel batch must not be broadcast silently to three channels."""
    preprocessing = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)

    for shape in [(2, 1, 4, 4), (2, 3, 4), (3,), (2, 4)]:
        with pytest.raises(ValueError, match=r"^inputs: shape"):
            preprocessing.apply(torch.zeros(shape))
