"""Makes columns of what kafka-python delivers, and the names of partitions on both sides."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from kafka import TopicPartition

from teacherd.consumers.headers import HeadersError, pack_headers
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch

_COLUMNS = attrgetter("offset", "key", "headers", "value", "timestamp")
_UNPACKABLE = b"\xff\xff"
"""Begins no packed headers, so that readers take what follows for damaged ones."""


def theirs(partitions: Iterable[Partition]) -> list[Any]:
    """Name partitions as kafka-python does."""
    return [TopicPartition(*partition) for partition in partitions]


def ours(partition: Any) -> Partition:  # noqa: ANN401 (kafka-python has no types)
    """Name a partition as the rest of us does."""
    return Partition(partition.topic, partition.partition)


def make_batch(partition: Partition, records: Sequence[Any]) -> RecordBatch:
    """Return the columns of consumer records, at least one, all of one partition.

    A value that is null (a tombstone) becomes empty, and so does a header's.
    """
    offsets, keys, headers, values, timestamps = zip(*map(_COLUMNS, records), strict=True)
    if None in values:
        values = tuple(b"" if value is None else value for value in values)
    packed = [_pack(each) for each in headers]
    return RecordBatch(partition, offsets, keys, packed, values, timestamps)


def _pack(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    try:
        return pack_headers(tuple(headers))  # type: ignore[arg-type]  # None is caught below
    except TypeError:
        return _pack([(name, value or b"") for name, value in headers])
    except HeadersError:
        return _UNPACKABLE + repr(headers).encode()
