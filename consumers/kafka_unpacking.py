"""Unpacks what brokers send with half of kafka-python's work for each record.

The client makes two objects of thirteen fields for each record and measures its headers; we need
five fields. Checksums, compression, transactions and positions stay the client's own. It replaces a
part of the client that is not public, so only in versions that it was held against
(tests/test_kafka_unpacking.py); in others the client does it all.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import kafka
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel

CHECKED_VERSIONS = frozenset({"3.0.12"})
Headers = tuple[tuple[str, bytes | None], ...]
_MORE, _LOW_BITS = 0x80, 0x7F
_MOST_BITS = 64
_WITH_OFFSETS = 2
"""Message format 2, which all brokers since Kafka 0.11 use."""
_LOG_APPEND_TIME = 1


class FetchedRecord(NamedTuple):
    """What is asked about a record; names as in kafka-python's ConsumerRecord."""

    offset: int
    key: bytes | None
    headers: Headers
    value: bytes | None
    timestamp: int


def unpack_leanly(consumer: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
    """Let a consumer's `poll` give FetchedRecords, if its version is one that was checked."""
    if kafka.__version__ in CHECKED_VERSIONS:
        consumer._fetcher.PartitionRecords = _LeanRecords  # noqa: SLF001 (there is no public way)


class _LeanRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python has no types
    """The records of one fetch of a partition."""

    def _unpack_records(self, *arguments: Any) -> Iterator[FetchedRecord]:  # noqa: ANN401 (as above)
        records, last = arguments[1], None
        while (batch := records.next_batch()) is not None:
            last = batch
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(
                    f"{self.topic_partition}: the batch at {batch.base_offset} fails its checksum"
                )
            if batch.magic == _WITH_OFFSETS and self._is_passed_over(batch):
                self.next_fetch_offset = batch.next_offset
                continue
            unpack = unpack_batch if batch.magic == _WITH_OFFSETS else _unpack_old_batch
            for record in unpack(batch):
                self.next_fetch_offset = record.offset + 1
                yield record
        if last is not None and last.magic == _WITH_OFFSETS:
            # Compaction may have taken the last record, but not its offset from the batch.
            self.next_fetch_offset = last.next_offset
        self.drain()

    def _is_passed_over(self, batch: Any) -> bool:  # noqa: ANN401 (as above)
        """Tell whether it is a marker of a transaction, or was aborted."""
        self.leader_epoch = batch.leader_epoch
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def unpack_batch(batch: Any) -> Iterator[FetchedRecord]:  # noqa: ANN401 (as above)
    """Yield the records of a batch of message format 2.

    Raises:
        CorruptRecordError: It is none.
    """
    iter(batch)  # decompresses it
    buffer, at = batch._buffer, batch._pos  # noqa: SLF001 (there is no public way)
    view = memoryview(buffer)
    offset, first = batch.base_offset, batch.first_timestamp
    appended = batch.max_timestamp if batch.timestamp_type == _LOG_APPEND_TIME else None
    known: dict[bytes, Headers] = {}
    names: dict[bytes, str] = {}
    try:
        for _ in range(batch.records_count):
            length, start = _read_number(buffer, at)
            _, at = _read_number(buffer, start)  # attributes, none in use
            passed, at = _read_number(buffer, at)
            distance, at = _read_number(buffer, at)
            key, at = _read_bytes(buffer, view, at)
            value, at = _read_bytes(buffer, view, at)
            packed = bytes(view[at : start + length])
            headers = known.get(packed)
            if headers is None:
                headers, at = _read_headers(buffer, view, at, names)
                if at - start != length:
                    raise CorruptRecordError(f"a record has {at - start} bytes, it says {length}")
                known[packed] = headers
            at = start + length
            timestamp = first + passed if appended is None else appended
            yield FetchedRecord(offset + distance, key, headers, value, timestamp)
    except (ValueError, IndexError) as error:
        raise CorruptRecordError(f"the batch at {offset}: {error!r}") from error
    if at != len(buffer):
        raise CorruptRecordError(f"the batch at {offset} has {len(buffer) - at} bytes too many")


def _unpack_old_batch(batch: Any) -> Iterator[FetchedRecord]:  # noqa: ANN401 (as above)
    for record in batch:
        yield FetchedRecord(
            record.offset, record.key, tuple(record.headers), record.value, record.timestamp
        )


def _read_headers(
    buffer: bytearray, view: memoryview, at: int, names: dict[bytes, str]
) -> tuple[Headers, int]:
    """Read headers; names, of which a batch has few, are decoded once."""
    count, at = _read_number(buffer, at)
    if count < 0:
        raise CorruptRecordError(f"a record has {count} headers")
    headers = []
    for _ in range(count):
        encoded, at = _read_bytes(buffer, view, at)
        if encoded is None:
            raise CorruptRecordError("a header has no name")
        name = names.get(encoded)
        if name is None:
            # Brokers take any bytes. The client would fail here, and its partition wait for ever.
            name = names[encoded] = encoded.decode(errors="backslashreplace")
        value, at = _read_bytes(buffer, view, at)
        headers.append((name, value))
    return tuple(headers), at


def _read_bytes(buffer: bytearray, view: memoryview, at: int) -> tuple[bytes | None, int]:
    """Read a length, negative for null, and so many bytes."""
    length, at = _read_number(buffer, at)
    if length < 0:
        return None, at
    end = at + length
    return bytes(view[at:end]), end


def _read_number(buffer: bytearray, at: int) -> tuple[int, int]:
    """Read a zigzag-coded number of one or more bytes."""
    number = buffer[at]
    at += 1
    if number & _MORE:
        number &= _LOW_BITS
        shift = 7
        while True:
            byte = buffer[at]
            at += 1
            number |= (byte & _LOW_BITS) << shift
            if not byte & _MORE:
                break
            shift += 7
            if shift >= _MOST_BITS:
                raise ValueError("a number is too long")
    return (number >> 1) ^ -(number & 1), at
