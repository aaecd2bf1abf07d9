"""Tests of the digest of a range."""

import hashlib
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import INSTANCES

from teacherd.consumers.headers import pack_headers
from teacherd.consumers.range_digest import RangeDigest
from teacherd.consumers.record import Record
from teacherd.consumers.record_batch import RecordBatch


def record(number: int, **fields: object) -> Record:
    """Return a small record with this offset, differing where said."""
    base = Record(INSTANCES, number, b"k", (("a", b"1"), ("b", b"2")), b"value", 7)
    return base._replace(**fields)


def digest(records: list[Record], *bounds: int) -> str:
    """Digest records in batches that end at these places."""
    made = RangeDigest()
    low = 0
    for high in (*sorted(bounds), len(records)):
        if low < high <= len(records):
            made.update(RecordBatch.of(records[low:high]))
            low = high
    return made.hexdigest()


def test_a_settled_digest_holds_no_records_and_goes_on() -> None:
    """The memory of what was hashed is given back, and the digest is the same in the end."""
    records = [record(number, value=bytes(100_000)) for number in range(1, 5)]
    tracemalloc.start()
    try:
        made = RangeDigest()
        made.update(RecordBatch.of(records[:3]))
        made.settle()
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made.update(RecordBatch.of(records[3:]))

    assert held < 100_000 < most
    assert naive_digest(records) == made.hexdigest()


def naive_digest(records: list[Record]) -> str:
    """Do what the docstring says, in the plainest way."""
    frames, parts = b"", b""
    for each in records:
        packed = pack_headers(each.headers)
        key_length = -1 if each.key is None else len(each.key)
        frames += struct.pack(">4q", each.offset, key_length, len(packed), len(each.value))
        parts += (each.key or b"") + packed + each.value
    both = hashlib.sha256(frames).digest() + hashlib.sha256(parts).digest()
    return hashlib.sha256(both).hexdigest()


RECORDS = st.lists(
    st.builds(
        record,
        st.integers(0, 2**62),
        key=st.none() | st.binary(max_size=3),
        value=st.binary(max_size=5),
    ),
    max_size=8,
)


@given(RECORDS, st.lists(st.integers(0, 8), max_size=4))
def test_the_digest_is_the_naive_one_however_records_are_batched(
    records: list[Record], bounds: list[int]
) -> None:
    """It depends on the records alone."""
    assert naive_digest(records) == digest(records, *bounds)


def test_the_digest_of_known_records_stays_what_it_is() -> None:
    """Plans in existing logs hold it: this value must never change."""
    expected = "4942df807d4cdbe592a96b7f7bdf133531bc034270801f0edc082276e4067106"

    assert expected == digest([record(1), record(2, key=None, headers=())])


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 3},
        {"key": None},
        {"key": b""},
        {"headers": (("a", b"12"), ("b", b""))},
        {"headers": (("b", b"2"), ("a", b"1"))},
        {"value": b"value "},
        {"key": b"", "value": b"kvalue"},
    ],
)
def test_every_part_of_a_record_counts(fields: dict[str, object]) -> None:
    """Also where the bytes one after the other would be the same."""
    assert digest([record(1), record(2)]) != digest([record(1), record(2, **fields)])


def test_the_timestamp_does_not_count() -> None:
    """A log that was copied may stamp anew."""
    assert digest([record(1)]) == digest([record(1, timestamp_ms=8)])


def test_hashing_in_a_thread_gives_the_same() -> None:
    """Megabytes pass through both buffers, in order."""
    records = [record(offset, value=bytes([offset]) * 300_000) for offset in range(1, 20)]
    with ThreadPoolExecutor(1) as executor:
        made = RangeDigest(executor)
        for each in records:
            made.update(RecordBatch.of([each]))

        assert naive_digest(records) == made.hexdigest()
