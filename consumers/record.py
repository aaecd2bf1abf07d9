"""A record, bytes as a source delivers them, and the places and ranges that name records."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple


class Partition(NamedTuple):
    """One ordered sequence of records; offsets mean something only within it."""

    topic: str
    number: int


class OffsetRange(NamedTuple):
    """The half-open range [start, end) of a partition's offsets; gaps inside it are no loss."""

    partition: Partition
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a source. (partition, offset) is its identity, for ever."""

    partition: Partition
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    timestamp_ms: int
    """Wall clock at which the log or broker took it, milliseconds since the epoch."""


def record_digest(record: Record) -> bytes:
    """Return the sha256 of what the record is: offset, key, headers, value, each length-prefixed."""
    key = record.key
    parts = [record.offset.to_bytes(8, "big"), b"-" if key is None else b"+"]
    for part in (key or b"", *_header_parts(record), record.value):
        parts.append(len(part).to_bytes(4, "big"))
        parts.append(part)
    return hashlib.sha256(b"".join(parts)).digest()


def range_digest(digests: bytes) -> str:
    """Return the hex digest of a range from its records' digests, concatenated in offset order."""
    return hashlib.sha256(digests).hexdigest()


def _header_parts(record: Record) -> list[bytes]:
    parts = []
    for name, value in record.headers:
        parts.append(name.encode())
        parts.append(value)
    return parts
