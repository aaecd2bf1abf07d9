"""Tests of decoding what is malformed, too large or made to harm: rejected, and nothing raises."""

import tracemalloc

import numpy as np
import pytest
from decoded import decode, decode_value, decoder, reason
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

from teacherd.consumers.decoding import JSON, NPY
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.instance import MAX_MESSAGE_CHARACTERS, REASONS, Instance, Rejected
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord
from teacherd.consumers.record_batch import RecordBatch

SHAPES = ((3, 32, 32), (1, 8, 8), (5,))


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
