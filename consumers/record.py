"""A record, bytes as a source delivers them, and the places and ranges that name records."""

from typing import NamedTuple

from teacherd.consumers.headers import Headers


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
    """One message of a source. (partition, offset) is its identity, for ever."""

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
