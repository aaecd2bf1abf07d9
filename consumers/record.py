"""A record, bytes as a source delivers them, and the places and ranges that name records."""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from teacherd.consumers.headers import Headers, pack_headers

_FRAME = struct.Struct(">QqIQ")
_NO_KEY = -1


class Partition(NamedTuple):
    """One ordered sequence of records; offsets mean something only within it."""

    topic: str
    number: int


class OffsetRange(NamedTuple):
    """The half-open range [start, end) of a partition's offsets; gaps inside it are no loss."""

    partition: Partition
    start: int
    end: int


class Record(NamedTuple):
    """One message of a source. (partition, offset) is its identity, for ever.

    A tuple because one is made for each message, and a frozen dataclass takes three times as long.
    """

    partition: Partition
    offset: int
    key: bytes | None
    headers: Headers
    value: bytes
    timestamp_ms: int
    """Wall clock at which the log or broker took it, milliseconds since the epoch."""


class NewRecord(NamedTuple):
    """What a producer hands over; log or broker add offset and timestamp."""

    value: bytes
    headers: Headers = ()
    key: bytes | None = None


class RangeDigest:
    """The sha256 of the records of a range: offset, key, headers and value of each.

    Each part is preceded by its length, so that no two different ranges have the same bytes. The
    records go in once, in offset order, in batches of any size; nothing is kept of them.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, records: Sequence[Record]) -> None:
        """Take in the next records of the range."""
        parts: list[bytes] = []
        for _, offset, key, headers, value, _ in records:
            packed = pack_headers(headers)
            key_length = _NO_KEY if key is None else len(key)
            frame = _FRAME.pack(offset, key_length, len(packed), len(value))
            parts += (frame, key or b"", packed, value)
        self._sha256.update(b"".join(parts))

    def hexdigest(self) -> str:
        """Return the digest of what went in so far."""
        return self._sha256.hexdigest()
