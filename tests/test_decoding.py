"""Tests of the decoder: every format, every limit, and that bad input is a value."""

import base64
import io
import json
import sys
import tracemalloc
import types
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from records import (
    INSTANCES,
    JPEG,
    WEBP,
    Case,
    arbitrary_records,
    at_offsets,
    color_image,
    encode_image,
    malformed_cases,
    picture,
    png_of_size,
)

from teacherd.consumers.decoding import JSON, NPY, Decoder, DecodingConfig
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.instance import MAX_MESSAGE_CHARACTERS, REASONS, Instance, Rejected
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord, Record
from teacherd.consumers.record_batch import RecordBatch

DIGITS = tuple("0123456789")
SHAPES = ((3, 32, 32), (1, 8, 8), (5,))


def decoder(
    *,
    input_shape: tuple[int, ...] = (3, 32, 32),
    classes: tuple[str, ...] = DIGITS,
    **config: object,
) -> Decoder:
    """Build a decoder that differs from the defaults where said."""
    return Decoder(DecodingConfig(**config), input_shape=input_shape, classes=classes)


def decode(made: Decoder, record: NewRecord) -> Instance | Rejected:
    """Decode one record."""
    ((result,),) = [made.decode_batch(at_offsets([record]))]
    return result


def decode_value(
    value: bytes, content_type: str, *, input_shape: tuple[int, ...] = (3, 32, 32)
) -> Instance | Rejected:
    """Decode a value that has the label 3."""
    made = decoder(input_shape=input_shape)
    return decode(made, build_record(value, content_type=content_type, label="3"))


def reason(result: Instance | Rejected) -> str:
    """Return why a record was rejected."""
    assert isinstance(result, Rejected), "it was not rejected"
    return result.reason


def array(result: Instance | Rejected) -> np.ndarray:
    """Return what a record was decoded to."""
    assert isinstance(result, Instance), f"it was rejected: {result}"
    return result.array


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


def test_a_jpeg_of_endless_scans_is_refused_unread() -> None:
    """Each scan is a pass over all pixels; a few megabytes could ask for hours."""
    value = encode_image(picture(3, side=32), "JPEG", progressive=True)
    last_scan = value[value.rindex(b"\xff\xda") : -2]
    endless = value[:-2] + 1000 * last_scan + value[-2:]

    assert isinstance(decode_value(value, JPEG), Instance)
    assert "malformed" == reason(decode_value(endless, JPEG))


def test_the_longest_value_is_taken_and_one_byte_more_is_not() -> None:
    """The limit is sharp, and known before anything is decoded."""
    value = encode_npy(np.zeros(1))
    record = build_record(value, content_type=NPY, label="1")

    results = [
        decode(decoder(input_shape=(1,), max_record_bytes=limit), record)
        for limit in (len(value), len(value) - 1)
    ]

    assert isinstance(results[0], Instance)
    assert "too_large" == reason(results[1])


@pytest.mark.parametrize(
    ("size", "expected"),
    [((20, 20), None), ((20, 21), "pixels"), ((30, 1), None), ((31, 1), "side")],
)
def test_images_are_bounded_by_pixels_and_by_side(
    size: tuple[int, int], expected: str | None
) -> None:
    """Both limits are sharp."""
    value = encode_image(Image.new("RGB", size), "PNG")
    made = decoder(max_pixels=400, max_dimension=30)

    result = decode(made, build_record(value, content_type=PNG, label="1"))

    assert isinstance(result, Instance) == (expected is None)
    assert expected is None or "too_many_pixels" == reason(result)


def test_a_png_that_claims_a_huge_size_is_refused_by_its_header() -> None:
    """Nothing is allocated for it."""
    assert "too_many_pixels" == reason(decode_value(png_of_size(100_000, 100_000), PNG))


def test_a_webp_that_claims_a_huge_size_is_refused_before_it_is_opened() -> None:
    """Opening alone would allocate its canvas; this one cannot even be opened."""
    side = (16384).to_bytes(3, "little")
    header = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + side + side

    assert "too_many_pixels" == reason(decode_value(header, WEBP))


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


@pytest.mark.parametrize("input_shape", SHAPES)
def test_every_malformed_record_is_rejected(input_shape: tuple[int, ...]) -> None:
    """More than two hundred bad records: none raises, each has one of the few reasons."""
    cases = malformed_cases()

    decoded = decoder(input_shape=input_shape).decode_batch(
        at_offsets([each.record for each in cases])
    )

    assert len(cases) > 200
    assert list(range(len(cases))) == list(decoded.rejected)
    assert {rejected.reason for rejected in decoded.rejected.values()} <= REASONS
    for rejected in decoded.rejected.values():
        assert 0 < len(rejected.message) <= MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize("case", [case for case in malformed_cases() if case.reason])
def test_a_malformed_record_is_rejected_for_its_own_reason(case: Case) -> None:
    """The reason says what to mend."""
    assert case.reason == reason(decode(decoder(), case.record))


@given(st.lists(arbitrary_records(), min_size=1, max_size=8), st.sampled_from(SHAPES))
@settings(deadline=None)
def test_nothing_a_record_holds_makes_the_decoder_raise(
    records: list[NewRecord], input_shape: tuple[int, ...]
) -> None:
    """Arbitrary bytes give an instance of the right form or a rejection, alone as in a batch."""
    made = decoder(input_shape=input_shape)

    together = list(made.decode_batch(at_offsets(records)))

    for record, result in zip(at_offsets(records), together, strict=True):
        alone = made.decode(record)
        assert type(alone) is type(result)
        if isinstance(result, Rejected):
            assert result == alone
            assert result.reason in REASONS
        else:
            assert input_shape == result.array.shape
            assert np.array_equal(result.array, alone.array)
    made.close()


def test_headers_that_cannot_be_read_are_a_rejection() -> None:
    """Rows that somebody wrote past this library do not stop the stream."""
    good = at_offsets([build_record(encode_npy(np.zeros(1)), content_type=NPY, label="1")] * 3)
    headers = [good.headers[0], b"\x00\x03junk", good.headers[2]]
    batch = RecordBatch(
        INSTANCES, good.offsets, good.keys, headers, good.values, good.timestamps_ms
    )

    decoded = decoder(input_shape=(1,)).decode_batch(batch)

    assert [0, 2] == list(decoded.places)
    assert "malformed" == decoded.rejected[1].reason
    assert (("unreadable-headers", b"\x00\x03junk"),) == batch.record(1).headers


def test_the_longest_headers_are_taken_and_one_byte_more_is_not() -> None:
    """Names count too; those of the other records are read as ever, whatever comes between."""
    plain = build_record(encode_npy(np.zeros(1)), content_type=NPY, label="1")
    longer = plain._replace(headers=(*plain.headers, ("n" * 700, b"v" * 700)))
    packed = len(pack_headers(longer.headers))

    results = [
        list(
            decoder(input_shape=(1,), max_header_bytes=limit).decode_batch(
                at_offsets([plain, longer, plain])
            )
        )
        for limit in (packed, packed - 1)
    ]

    assert [True] * 3 == [isinstance(each, Instance) for each in results[0]]
    assert [True, False, True] == [isinstance(each, Instance) for each in results[1]]
    assert "headers_too_large" == reason(results[1][1])


def test_headers_of_many_long_layouts_do_not_stay_in_memory() -> None:
    """A producer whose names are never the same must not fill the daemon's memory."""
    made = decoder(input_shape=(1,))
    plain = build_record(encode_npy(np.zeros(1)), content_type=NPY, label="1")

    def send(numbers: range) -> None:
        for number in numbers:
            name = f"{number:06}" + "n" * 7000
            made.decode_batch(at_offsets([plain._replace(headers=(*plain.headers, (name, b"")))]))

    send(range(10))
    tracemalloc.start()
    send(range(10, 510))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept_bytes < 500 * 7000 / 10


def test_messages_do_not_repeat_the_payload() -> None:
    """What is private stays in the dead letters."""
    secret = b"SECRETSECRET"
    png = encode_png(color_image(1))
    values = [secret, png[:40] + secret + png[52:], b'{"features": ["SECRETSECRET"]}']
    records = [
        build_record(value, content_type=content_type, label="1")
        for value in values
        for content_type in (PNG, JPEG, WEBP, NPY, JSON)
    ]

    decoded = decoder().decode_batch(at_offsets(records))

    assert len(records) == len(decoded.rejected)
    assert not [each for each in decoded.rejected.values() if "SECRET" in each.message]


@pytest.fixture
def own_decoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Record], object]], Decoder]:
    """Build a decoder around the user's function, importable as own_formats.read."""

    def build(function: Callable[[Record], object]) -> Decoder:
        module = types.ModuleType("own_formats")
        module.read = function
        monkeypatch.setitem(sys.modules, "own_formats", module)
        return decoder(input_shape=(2,), decoder="own_formats:read")

    return build


def test_the_users_own_decoder_sees_the_record(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """It gets key, headers and value, and returns array and label; id and time still count."""
    made = own_decoder(lambda record: (np.frombuffer(record.value, "<f4"), record.key.decode()))
    headers = (("id", b"x"), ("event-time", b"5"))

    result = decode(made, NewRecord(np.array([1, 2], "<f4").tobytes(), headers, b"3"))

    assert [1, 2] == array(result).tolist()
    assert (3, b"x", 5) == (result.label, result.id, result.event_time_ms)


@pytest.mark.parametrize("label", [4, "4", np.int64(4), np.uint8(4)])
def test_the_users_decoder_may_name_the_class_or_number_it(
    own_decoder: Callable[[Callable[[Record], object]], Decoder], label: object
) -> None:
    """With Python's integers or numpy's."""
    assert 4 == decode(own_decoder(lambda _: (np.zeros(2), label)), NewRecord(b"x")).label


def test_the_users_decoder_may_use_the_same_memory_again(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """What it returned for one record is not changed by the next."""
    memory = np.zeros(2, np.float32)

    def read(record: Record) -> object:
        memory[:] = record.offset
        return memory, 0

    batch = own_decoder(read).decode_batch(at_offsets([NewRecord(b"x")] * 3))

    assert [[1, 1], [2, 2], [3, 3]] == [each.array.tolist() for each in batch]


def test_the_users_decoder_alone_says_what_a_label_means(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """A header that is none of the classes may stand for one."""
    made = own_decoder(lambda record: (np.zeros(2), len(dict(record.headers)["label"])))

    assert 4 == decode(made, NewRecord(b"x", (("label", b"four"),))).label


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ((np.zeros(2), 10**5000), "unknown_label"),
        (None, "decoder_error"),
        ((1, 2), "decoder_error"),
        ((np.zeros(2), None), "decoder_error"),
        ((np.zeros(2), True), "decoder_error"),
        ((np.zeros(3), 1), "wrong_shape"),
        ((np.zeros(2), 10), "unknown_label"),
        ((np.array([None, None]), 1), "pickle"),
        ((np.array(["a", "b"]), 1), "wrong_dtype"),
        ((np.array([1, np.nan]), 1), "not_finite"),
    ],
)
def test_what_the_users_decoder_returns_is_checked(
    own_decoder: Callable[[Callable[[Record], object]], Decoder], returned: object, expected: str
) -> None:
    """It cannot bring in what the built-in formats could not."""
    assert expected == reason(decode(own_decoder(lambda _: returned), NewRecord(b"x")))


def test_whatever_the_users_decoder_raises_is_a_rejection(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """The message says what and where, not what it was about."""

    def read(record: Record) -> object:
        raise LookupError(record.value)

    result = decode(own_decoder(read), NewRecord(b"SECRET"))

    assert "decoder_error" == reason(result)
    assert "LookupError at test_decoding.py:" in result.message
    assert "SECRET" not in result.message


@pytest.mark.parametrize("path", ["no_such_module:read", "json:no_such_name", "json:__doc__"])
def test_a_decoder_that_cannot_be_had_is_told_at_the_start(path: str) -> None:
    """The message names the key and the value."""
    with pytest.raises(ValueError, match=f"decoder: '{path}'"):
        decoder(decoder=path)


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
