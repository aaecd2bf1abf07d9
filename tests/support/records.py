"""Records for tests: good ones, and more than two hundred that no network can learn from."""

import base64
import io
import json
import pickle
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from teacherd.consumers.decoding import JSON, NPY
from teacherd.consumers.headers import Headers
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord, Partition, Record
from teacherd.consumers.record_batch import RecordBatch

INSTANCES = Partition("instances", 0)
LABEL = "3"
"""A label that every network of the tests knows, as name or as index."""
JPEG = "image/jpeg"
WEBP = "image/webp"
_SIDE = 13
"""Height and width of the images here; no network of the tests takes arrays of it."""


class Case(NamedTuple):
    """A record and why it is none, where that is the same for every network."""

    record: NewRecord
    reason: str | None


def at_offsets(
    records: Sequence[NewRecord], *, first: int = 1, partition: Partition = INSTANCES
) -> RecordBatch:
    """Return records as a source would deliver them, from an offset on."""
    return RecordBatch.of(
        [
            Record(partition, first + number, record.key, record.headers, record.value, 1000)
            for number, record in enumerate(records)
        ]
    )


def color_image(seed: int, *, side: int = _SIDE) -> np.ndarray:
    """Return a seeded uint8 [3,H,W] image."""
    return np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8)


def encode_image(image: Image.Image, format_name: str, **options: object) -> bytes:
    """Return an image as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def picture(seed: int, *, side: int = _SIDE) -> Image.Image:
    """Return a seeded colour image."""
    return Image.fromarray(np.ascontiguousarray(color_image(seed, side=side).transpose(1, 2, 0)))


def malformed_records() -> list[NewRecord]:
    """Return more than two hundred records that no network can learn from, the same each time."""
    return [case.record for case in malformed_cases()]


def malformed_cases() -> list[Case]:
    """Return them with the reason for which each must be rejected."""
    return [
        *_empty(),
        *_cut_short(),
        *_too_large_images(),
        *_broken_arrays(),
        *_unusable_arrays(),
        *_pickles(),
        *_broken_json(),
        *_bad_headers(),
        *_noise(),
    ]


def arbitrary_records() -> st.SearchStrategy[NewRecord]:
    """Return records of arbitrary bytes, with headers that often fit something else."""
    values = st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"", encode_png(color_image(0)), encode_npy(color_image(0)), b"{}"]),
        st.builds(_overwritten, st.integers(0, 400), st.binary(min_size=1, max_size=4)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["image", "features", "label", "x"]), inner, max_size=3
                )
            ),
            max_leaves=8,
        ).map(lambda body: json.dumps(body).encode()),
    )
    types = st.sampled_from([PNG, JPEG, WEBP, NPY, JSON, "text/plain", ""]).map(str.encode)
    names = st.sampled_from(["content-type", "label", "id", "event-time"]) | st.text(max_size=5)
    header = st.tuples(names, st.binary(max_size=20) | st.just(LABEL.encode()) | types)
    headers = st.lists(header, max_size=5).map(tuple)
    return st.builds(NewRecord, values, headers, st.none() | st.binary(max_size=5))


def _overwritten(at: int, part: bytes) -> bytes:
    """Return a PNG with some of its bytes replaced."""
    value = bytearray(encode_png(color_image(1)))
    value[at : at + len(part)] = part
    return bytes(value)


def _record(value: bytes, content_type: str = NPY) -> NewRecord:
    return build_record(value, content_type=content_type, label=LABEL)


def _empty() -> Iterator[Case]:
    for content_type in (PNG, JPEG, WEBP, NPY, JSON, "text/plain"):
        yield Case(_record(b"", content_type), "empty")


def _cut_short() -> Iterator[Case]:
    encoded = {
        PNG: encode_png(color_image(2)),
        JPEG: encode_image(picture(3), "JPEG"),
        WEBP: encode_image(picture(4), "WEBP"),
        NPY: encode_npy(color_image(5)),
    }
    for content_type, value in encoded.items():
        for twelfths in range(1, 11):
            cut = value[: len(value) * twelfths // 12]
            yield Case(_record(cut, content_type), "truncated" if content_type == NPY else None)
        yield Case(_record(value[:1], content_type), None)
    body = {"image": base64.b64encode(encoded[PNG][:-40]).decode()}
    yield Case(_record(json.dumps(body).encode(), JSON), None)


def _too_large_images() -> Iterator[Case]:
    for width, height in ((100_000, 100_000), (2**31 - 1, 1), (1, 2**31 - 1), (65_535, 65_535)):
        yield Case(_record(png_of_size(width, height), PNG), None)
        size = (min(width, 2**24) - 1).to_bytes(3, "little") + (min(height, 2**24) - 1).to_bytes(
            3, "little"
        )
        chunk = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + size
        webp = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
        yield Case(_record(webp, WEBP), None)
    jpeg = bytearray(encode_image(picture(6), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    yield Case(_record(bytes(jpeg), JPEG), None)


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and has next to no pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        checksum = zlib.crc32(name + data).to_bytes(4, "big")
        parts += [len(data).to_bytes(4, "big"), name, data, checksum]
    return b"".join(parts)


def npy_with_header(text: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """Return .npy bytes with any text as header."""
    header = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


def _broken_arrays() -> Iterator[Case]:
    good = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }"
    for version in (b"\x00\x00", b"\x04\x00", b"\x01\x01", b"\xff\xff"):
        yield Case(_record(npy_with_header(good, bytes(4), version)), "malformed")
    yield Case(_record(npy_with_header(good, bytes(5))), "malformed")
    yield Case(_record(npy_with_header(good + " " * 5000, bytes(4))), "malformed")
    for text in (
        "",
        "{}",
        "[]",
        "None",
        "{'descr': '|u1'}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), 'more': 1}",
        "{'descr': '|u1', 'descr': '|u1', 'shape': (2, 2), }",
        "{'descr': '|u1', 'fortran_order': 0, 'shape': (2, 2), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, , 2), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': [2, 2], }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999, 2), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (__import__('os').getpid(), ), }",
        "(" * 300 + ")" * 300,
        "{'descr': '\xff', 'fortran_order': False",
    ):
        yield Case(_record(npy_with_header(text, bytes(4))), "malformed")
    yield Case(
        _record(npy_with_header(good.replace("(2, 2)", "(99999, 99999, 99999)"))), "truncated"
    )


def _unusable_arrays() -> Iterator[Case]:
    for shape in ((), (0,), (0, 3), (5, 7), (2, 2, 2), (3, 5, 7), (13,), (1, 1, 1, 1), (7, 5, 3)):
        for dtype in (np.uint8, np.float32, np.int64):
            yield Case(_record(encode_npy(np.zeros(shape, dtype=dtype))), None)
    for number in (np.nan, np.inf, -np.inf, 1e300):
        yield Case(_record(encode_npy(np.full(_SIDE, number))), None)
    for dtype in ("c8", "c16", "M8[s]", "m8[D]", "S3", "U3", "V4", [("a", "u1"), ("b", "f4")]):
        yield Case(_record(encode_npy(np.zeros((4, 4), dtype=dtype))), "wrong_dtype")
    yield Case(_record(encode_npy(np.zeros((_SIDE, _SIDE), dtype=np.longdouble))), "wrong_dtype")


class _Bomb:
    """Would end the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exit, (1,))


def _pickles() -> Iterator[Case]:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield Case(_record(pickle.dumps(_Bomb(), protocol=protocol)), "malformed")
        for content_type in (PNG, JSON):
            yield Case(_record(pickle.dumps([1.0], protocol=protocol), content_type), None)
    for array in (np.array([_Bomb()], dtype=object), np.zeros(3, dtype=[("a", "O"), ("b", "u1")])):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True)
        yield Case(_record(buffer.getvalue()), "pickle")
    text = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    yield Case(_record(npy_with_header(text, pickle.dumps(_Bomb()))), "pickle")


def _broken_json() -> Iterator[Case]:
    for value in (
        b"{",
        b"nonsense",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"features": ' + b"[" * 100_000,
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"{}",
        b'{"image": null, "features": null}',
        b'{"image": "", "features": [1]}',
        b'{"image": 3}',
        b'{"image": "***"}',
        b'{"image": "abc"}',
        b'{"image": ""}',
        b'{"image": "bm90IGFuIGltYWdl"}',
        b'{"features": 3}',
        b'{"features": {"0": 1}}',
        b'{"features": [1], "label": 1' + b"0" * 5000 + b"}",
    ):
        yield Case(_record(value, JSON), "malformed")
    for features in ("true, false", "null", '"1"', "[1]"):
        yield Case(_record(f'{{"features": [{features}]}}'.encode(), JSON), "wrong_dtype")
    for features in ("", "1, 2", "NaN", "1e999"):
        yield Case(_record(f'{{"features": [{features}]}}'.encode(), JSON), None)
    yield Case(_record(b'{"features": [1' + b"0" * 400 + b"]}", JSON), "not_finite")
    image = base64.b64encode(encode_png(color_image(7)))
    for label in (b"true", b"[]", b"1.5", b"{}", b'"no such class"', b"-1", b"1000000", b'""'):
        value = b'{"image": "' + image + b'", "label": ' + label + b"}"
        headers: Headers = (("content-type", JSON.encode()),)
        yield Case(NewRecord(value, headers), "unknown_label")
    yield Case(
        NewRecord(b'{"image": "' + image + b'"}', (("content-type", JSON.encode()),)),
        "missing_label",
    )


def _bad_headers() -> Iterator[Case]:
    png = encode_png(color_image(8))
    for label in (
        "-1",
        "10000",
        "no such class",
        " 3",
        "3 ",
        "03",
        "3.0",
        "nan",
        "\x00",
        "x" * 999,
    ):
        yield Case(build_record(png, content_type=PNG, label=label), "unknown_label")
    for label in (b"\xff\xfe", b"\x00" * 8, b"3\n"):
        headers: Headers = (("content-type", PNG.encode()), ("label", label))
        yield Case(NewRecord(png, headers), "unknown_label")
    yield Case(build_record(png, content_type=PNG, label=None), "missing_label")
    yield Case(build_record(png, content_type=PNG, label=""), "missing_label")
    yield Case(build_record(encode_npy(color_image(8)), content_type=NPY, label=None), None)
    for content_type in ("", "image", "image/gif", "text/html", "image/png2", "png", "\x00", "*/*"):
        yield Case(_record(png, content_type), "unknown_content_type")
    yield Case(NewRecord(png, (("label", LABEL.encode()),)), "unknown_content_type")
    yield Case(NewRecord(png), "missing_label")
    yield Case(build_record(png, content_type=PNG, label=LABEL, id=b"i" * 257), "bad_id")
    for time in (b"yesterday", b"-5", b"2024-13-01", b"9" * 5000, b"\xff", b"1e3", b"0001-01-01"):
        bad = (*_record(png, PNG).headers, ("event-time", time))
        yield Case(NewRecord(png, bad), "bad_event_time")


def _noise() -> Iterator[Case]:
    rng = random.Random(0)
    for content_type in (PNG, JPEG, WEBP, NPY, JSON):
        for length in (1, 2, 7, 8, 16, 31, 100, 1000, 4096):
            yield Case(_record(rng.randbytes(length), content_type), None)
    starts = {
        PNG: b"\x89PNG\r\n\x1a\n",
        JPEG: b"\xff\xd8\xff",
        WEBP: b"RIFF\x00\x10\x00\x00WEBPVP8 ",
    }
    for content_type, start in starts.items():
        for length in (0, 10, 100, 1000):
            yield Case(_record(start + rng.randbytes(length), content_type), None)
