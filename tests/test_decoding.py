"""Tests of decoding: arrays, JSON, labels and headers, in batches of any mixture."""

import base64
import json

import numpy as np
import pytest
from decoded import array, decode, decode_value, decoder, reason
from records import (
    at_offsets,
    color_image,
)

from teacherd.consumers.decoding import JSON, NPY, DecodingConfig
from teacherd.consumers.instance import Instance
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png


def test_an_array_is_taken_as_it_is() -> None:
    """A uint8 [C,H,W] of the network's shape comes out bit for bit."""
    image = color_image(0, side=32)

    assert np.array_equal(image, array(decode_value(encode_npy(image), NPY)))


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u4", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0)])
def test_integer_images_are_read_in_any_layout(dtype: str, order: str, axes: tuple[int]) -> None:
    """Byte order, memory order and the place of the channels make no difference."""
    image = color_image(1, side=32)
    stored = np.asarray(image.transpose(axes), dtype=dtype, order=order)

    decoded = array(decode_value(encode_npy(stored), NPY))

    assert np.uint8 == decoded.dtype
    assert np.array_equal(image, decoded)


def test_an_array_without_channels_is_a_gray_image() -> None:
    """[H,W] serves a network of one channel, and one of three."""
    plane = color_image(2, side=8)[0]

    for channels in (1, 3):
        decoded = array(decode_value(encode_npy(plane), NPY, input_shape=(channels, 8, 8)))

        assert np.array_equal(np.stack([plane] * channels), decoded)


@pytest.mark.parametrize("input_shape", [(), (3, 32), (0,), (3, 0, 32), (1, 2, 3, 4)])
def test_a_network_that_takes_neither_images_nor_features_is_refused(
    input_shape: tuple[int, ...],
) -> None:
    """The error names the shape."""
    with pytest.raises(ValueError, match="input_shape"):
        decoder(input_shape=input_shape)


@pytest.mark.parametrize("number", [-1, 256, 70000])
def test_an_integer_image_beyond_eight_bits_is_rejected(number: int) -> None:
    """Nothing is cut off silently."""
    image = np.zeros((3, 32, 32), dtype=np.int32)
    image[1, 2, 3] = number

    assert "out_of_range" == reason(decode_value(encode_npy(image), NPY))


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "u1", "i8", "?"])
def test_features_become_float32(dtype: str) -> None:
    """Any real type of number serves as a feature."""
    features = np.array([0, 1, 1, 0, 1], dtype=dtype)

    decoded = array(decode_value(encode_npy(features), NPY, input_shape=(5,)))

    assert np.float32 == decoded.dtype
    assert [0, 1, 1, 0, 1] == decoded.tolist()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39])
def test_a_feature_that_is_not_finite_in_float32_is_rejected(number: float) -> None:
    """Neither NaN nor infinity reaches the network, also not by rounding."""
    features = np.array([0, 1, 2, 3, number])

    assert "not_finite" == reason(decode_value(encode_npy(features), NPY, input_shape=(5,)))


def test_the_bad_rows_of_a_batch_do_not_harm_the_good_ones() -> None:
    """Arrays are decoded together, but judged one by one."""
    rows = [np.full(5, number, dtype=np.float32) for number in (1, np.nan, 2, np.inf, 3)]
    records = [build_record(encode_npy(row), content_type=NPY, label="1") for row in rows]

    decoded = decoder(input_shape=(5,)).decode_batch(at_offsets(records))

    assert [0, 2, 4] == list(decoded.places)
    assert [1, 3] == list(decoded.rejected)
    assert [1, 2, 3] == [row[0] for row in decoded.rows]


def test_json_carries_image_or_features_and_the_label() -> None:
    """A body alone is enough; a header's label wins over the body's."""
    image = color_image(8, side=32)
    body = {"image": base64.b64encode(encode_png(image)).decode(), "label": 4}
    with_image = build_record(json.dumps(body).encode(), content_type=JSON, label=None)
    features = build_record(
        b'{"features": [1, 2.5, -3, 0, 1e3], "label": "2"}', content_type=JSON, label="7"
    )

    first = decode(decoder(), with_image)
    second = decode(decoder(input_shape=(5,)), features)

    assert np.array_equal(image, array(first))
    assert 4 == first.label
    assert [1, 2.5, -3, 0, 1000] == array(second).tolist()
    assert 7 == second.label


def test_a_class_name_wins_over_an_index() -> None:
    """Where names are numbers, the label is taken as the name."""
    made = decoder(input_shape=(1,), classes=("2", "cat", "0"))
    value = encode_npy(np.zeros(1))

    places = [
        decode(made, build_record(value, content_type=NPY, label=label)).label
        for label in ("2", "cat", "0", "1")
    ]

    assert [0, 1, 2, 1] == places


def test_headers_give_id_and_event_time() -> None:
    """Both are kept; without them the id is None and the time the record's own."""
    value = encode_npy(np.zeros(1))
    full = build_record(value, content_type=NPY, label="1", id=b"a-7", event_time_ms=1234)
    bare = build_record(value, content_type=NPY, label="1")

    batch = decoder(input_shape=(1,)).decode_batch(at_offsets([full, bare]))

    assert [(b"a-7", 1234), (None, 1000)] == [(each.id, each.event_time_ms) for each in batch]


def test_a_repeated_header_counts_with_its_last_value() -> None:
    """As in Kafka."""
    record = build_record(encode_npy(np.zeros(1)), content_type=NPY, label="1")
    twice = record._replace(headers=(*record.headers, ("label", b"6")))

    assert 6 == decode(decoder(input_shape=(1,)), twice).label


def test_content_type_parameters_and_case_do_not_matter() -> None:
    """`Image/PNG; q=1` is PNG."""
    image = color_image(9, side=32)

    assert np.array_equal(image, array(decode_value(encode_png(image), "Image/PNG; q=1")))


def test_a_content_type_may_have_parameters_of_any_length() -> None:
    """They are cut before they are remembered; the type is what comes first."""
    value = encode_png(color_image(9, side=32))

    assert isinstance(decode_value(value, "image/png;" + "q" * 1000), Instance)


def test_formats_may_be_mixed_in_a_batch() -> None:
    """Instances keep the order of their records, whatever was decoded together."""
    images = [color_image(seed, side=32) for seed in range(20)]
    records = [
        build_record(
            encode_png(image) if seed % 3 else encode_npy(image),
            content_type=PNG if seed % 3 else NPY,
            label=str(seed % 10),
        )
        for seed, image in enumerate(images)
    ]

    decoded = decoder().decode_batch(at_offsets(records))

    assert list(range(20)) == list(decoded.places)
    assert np.array_equal(np.stack(images), np.stack(decoded.rows))
    assert [seed % 10 for seed in range(20)] == list(decoded.labels)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_record_bytes", 0),
        ("max_pixels", -1),
        ("max_dimension", 0),
        ("num_threads", -1),
        ("decoder", "no colon"),
        ("decoder", "a:b:c"),
        ("decoder", ""),
    ],
)
def test_a_setting_that_cannot_be_is_refused(key: str, value: object) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        DecodingConfig(**{key: value})
