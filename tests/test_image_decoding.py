"""Tests of decoding images: modes, sizes, formats, and the same from an array of them."""

import io

import numpy as np
import pytest
from decoded import array, decode_value, decoder
from PIL import Image
from records import (
    JPEG,
    WEBP,
    at_offsets,
    color_image,
    encode_image,
    picture,
)

from teacherd.consumers.decoding import NPY
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png


@pytest.mark.parametrize("content_type", [PNG, WEBP])
def test_lossless_images_come_out_bit_for_bit(content_type: str) -> None:
    """PNG and lossless WebP of the network's size are their pixels."""
    image = picture(2, side=32)
    value = encode_image(image, content_type[6:].upper(), lossless=True)

    decoded = array(decode_value(value, content_type))

    assert np.array_equal(np.asarray(image).transpose(2, 0, 1), decoded)


def test_jpeg_comes_out_as_pillow_reads_it() -> None:
    """JPEG is lossy; what counts is that it is what the same library gives everybody."""
    value = encode_image(picture(3, side=32), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(value)))

    assert np.array_equal(expected.transpose(2, 0, 1), array(decode_value(value, JPEG)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_mode_become_gray_or_color(mode: str, channels: int) -> None:
    """Palette, alpha and single bits end as the network's channels; alpha is dropped."""
    image = picture(4, side=8).convert(mode)
    value = encode_image(image, "PNG")
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(8, 8, channels)

    decoded = array(decode_value(value, PNG, input_shape=(channels, 8, 8)))

    assert np.array_equal(expected.transpose(2, 0, 1), decoded)


def test_a_palette_with_transparency_is_read_without_complaint() -> None:
    """Pillow would warn, and warnings are errors here."""
    image = picture(5, side=8).quantize(16)
    value = encode_image(image, "PNG", transparency=bytes(range(16)))

    decoded = array(decode_value(value, PNG, input_shape=(3, 8, 8)))

    assert np.array_equal(np.asarray(image.convert("RGB")).transpose(2, 0, 1), decoded)


def test_sixteen_bit_gray_keeps_its_upper_eight_bits() -> None:
    """It is not clipped to white."""
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    value = encode_image(Image.fromarray(levels), "PNG")

    decoded = array(decode_value(value, PNG, input_shape=(1, 8, 8)))

    assert np.array_equal((levels >> 8)[np.newaxis], decoded)


def test_images_are_resized_as_pillow_does() -> None:
    """Bilinear, to the network's height and width, which may differ."""
    image = picture(6, side=50)
    expected = np.asarray(image.resize((20, 10), Image.Resampling.BILINEAR)).transpose(2, 0, 1)

    decoded = array(decode_value(encode_image(image, "PNG"), PNG, input_shape=(3, 10, 20)))

    assert np.array_equal(expected, decoded)


@pytest.mark.parametrize(("given_side", "channels"), [(3, 1), (1, 3)])
def test_an_array_and_a_png_of_it_give_the_same(given_side: int, channels: int) -> None:
    """Gray from colour and colour from gray are made alike, bit for bit."""
    image = color_image(7, side=16)[:given_side]
    shape = (channels, 16, 16)

    from_png = array(decode_value(encode_png(image), PNG, input_shape=shape))

    assert np.array_equal(from_png, array(decode_value(encode_npy(image), NPY, input_shape=shape)))


def test_large_images_are_decoded_in_threads_with_the_same_result() -> None:
    """Threads change neither order nor bits."""
    values = [encode_image(picture(seed, side=200), "PNG") for seed in range(12)]
    values[5] = values[5][:1000]
    records = [
        build_record(value, content_type=PNG, label=str(n % 10)) for n, value in enumerate(values)
    ]
    batch = at_offsets(records)
    one, many = decoder(num_threads=1), decoder(num_threads=3)

    expected, found = one.decode_batch(batch), many.decode_batch(batch)
    one.close()
    many.close()

    assert 3 == many._num_parts(batch)
    assert [5] == list(found.rejected)
    assert expected.places == found.places
    assert expected.labels == found.labels
    assert np.array_equal(np.stack(expected.rows), np.stack(found.rows))
