"""Tests of making records."""

import io

import numpy as np
import pytest
from PIL import Image

from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (3, 4, 6)])
def test_a_png_holds_the_pixels_of_the_array(shape: tuple[int, ...]) -> None:
    """Gray with or without a channel axis, and colour."""
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    image = np.asarray(Image.open(io.BytesIO(encode_png(array))))

    expected = array.transpose(1, 2, 0) if shape[0] == 3 else array.reshape(4, 6)
    assert np.array_equal(expected, image)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 6), np.float32), np.zeros((2, 4, 6), np.uint8), np.zeros(4, np.uint8)]
)
def test_what_is_no_image_is_refused(array: np.ndarray) -> None:
    """The error shows type and shape."""
    with pytest.raises(ValueError, match=f"array: {array.dtype}"):
        encode_png(array)


def test_an_array_is_encoded_without_pickle() -> None:
    """Numbers come back; objects are refused."""
    array = np.arange(6.0).reshape(2, 3)

    assert np.array_equal(array, np.load(io.BytesIO(encode_npy(array)), allow_pickle=False))
    with pytest.raises(ValueError, match="Object"):
        encode_npy(np.array([None]))


def test_headers_say_what_is_known() -> None:
    """None leaves a header out."""
    full = build_record(b"v", content_type=PNG, label=3, id=b"i", event_time_ms=7, key=b"k")

    assert (
        NewRecord(
            b"v",
            (("content-type", b"image/png"), ("label", b"3"), ("id", b"i"), ("event-time", b"7")),
            b"k",
        )
        == full
    )
    assert (("content-type", b"x"),) == build_record(b"v", content_type="x", label=None).headers
