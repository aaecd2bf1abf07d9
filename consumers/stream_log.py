"""The embedded source: one SQLite file that many processes append to and one daemon reads."""

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from teacherd.consumers.headers import pack_headers
from teacherd.consumers.record import NewRecord, OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import Lag, RecordsLostError, Retention, SourceError
from teacherd.consumers.stream_log_file import (
    FIRST_OFFSET,
    open_stream_log,
    source_errors,
    transaction,
    without_waiting,
)

_WAIT_SECONDS = 0.02
_FETCH_BYTES = 32 << 20
"""A poll ends early here, so that large records do not add up to unbounded memory."""
_ROWS_AT_ONCE = 16
_READ_RECORDS = 256
_DELETED_AT_ONCE = 500
"""Rows in one deleting transaction: producers wait for it, a few milliseconds."""
_RETENTION_INTERVAL_SECONDS = 5.0
_MS_PER_HOUR = 3_600_000

_SELECT = (
    "SELECT offset, key, headers, value, timestamp_ms FROM records"
    " WHERE offset >= ? AND offset < ? ORDER BY offset LIMIT ?"
)
_INSERT = "INSERT INTO records (timestamp_ms, key, headers, value) VALUES (?, ?, ?, ?)"
_NO_END = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamLogConfig:
    """Where the stream log is, and how long it keeps what has been learned."""

    path: str = "stream.db"
    """The file; its directory must exist, on a local disk (SQLite's WAL needs shared memory)."""
    topic: str = "instances"
    """Name under which its records are known in the lineage log; a file has one."""
    retention_hours: float | None = 168.0
    """Records older than this are deleted once they are learned and checkpointed; null keeps all.
    A week leaves time to look into what went wrong."""
    retention_bytes: int | None = None
    """The oldest learned records are deleted while the file uses more than this; null sets no
    bound. Dead letters count, but are never deleted."""
    on_lost_records: Literal["stop", "continue"] = "stop"
    """What to do when records that were not learned are gone: exit 69, or skip them."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if not self.path:
            raise ValueError("path: '': must name a file; take stream.db")
        if not self.topic:
            raise ValueError("topic: '': must not be empty; take instances")
        for name in ("retention_hours", "retention_bytes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}: {value}: must be above 0; null means without bound")


class StreamLog:
    """The source contract on a SQLite file, and the way in for producers.

    An offset is a row's AUTOINCREMENT number: it grows with every append, also across processes,
    and is never used again, even after its row was deleted.

    Args:
        now: Wall clock, seconds since the epoch; records are stamped with it.
        sleep: Waits for so many seconds.
        is_read_only: Serve only as an archive: nothing is made, appended or deleted.

    Raises:
        StreamLogError: The file cannot be made, or is something else.
    """

    def __init__(
        self,
        config: StreamLogConfig,
        *,
        is_read_only: bool = False,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._path = Path(config.path)
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._partition = Partition(config.topic, 0)
        self._connection = open_stream_log(self._path, config.topic, is_read_only=is_read_only)
        self._position = self._deleted_below()
        self._released = FIRST_OFFSET
        self._is_paused = False
        self._next_retention = self._monotonic()

    def append(self, records: Iterable[NewRecord]) -> int:
        """Append all or none, durably before it returns; return the last offset.

        Raises:
            ValueError: There are no records, or keys, headers or values that cannot be stored.
            SourceError: The file did not take them; nothing was appended.
        """
        timestamp_ms = int(self._now() * 1000)
        rows = [
            (timestamp_ms, record.key, pack_headers(record.headers), record.value)
            for record in records
        ]
        if not rows:
            raise ValueError("records: []: there must be at least one; skip the call")
        try:
            with source_errors(self._path), transaction(self._connection):
                self._connection.executemany(_INSERT, rows)
                return self._end() - 1
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise ValueError(
                f"records: {error}: keys and values must be bytes of at most a gigabyte; encode "
                "or cut them"
            ) from error

    def partitions(self) -> Sequence[Partition]:
        """Return the one partition of the topic."""
        return (self._partition,)

    def earliest(self) -> Mapping[Partition, int]:
        """Return the first offset that can still be read, or the end if there is none."""
        with source_errors(self._path):
            row = self._connection.execute("SELECT min(offset) FROM records").fetchone()
            return {self._partition: self._end() if row[0] is None else row[0]}

    def topic_id(self) -> str | None:
        """Return None: offsets are never used again, so another log is told by its end."""
        return None

    def first_places(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return the beginning of what is there."""
        earliest = self.earliest()
        return {partition: earliest[partition] for partition in partitions}

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Move to this position.

        Raises:
            RecordsLostError: It lies before what retention has left, or beyond the log's end.
        """
        position = positions[self._partition]
        with source_errors(self._path):
            self._check_not_lost(position)
            end = self._end()
        if position > end:
            raise RecordsLostError(
                OffsetRange(self._partition, end, position),
                "the log ends before them; it is another file, or was restored from an older copy",
                kind="truncated",
            )
        self._position = position

    def poll(self, max_records: int, timeout_seconds: float) -> RecordBatch | None:
        """Return the next records; wait for the first one, at most for so long."""
        deadline = self._monotonic() + timeout_seconds
        self._retain_if_due()
        while True:
            batch = None if self._is_paused else self._next_batch(max_records)
            remaining = deadline - self._monotonic()
            if batch is not None or remaining <= 0:
                return batch
            self._sleep(min(_WAIT_SECONDS, remaining))

    def positions(self) -> Mapping[Partition, int]:
        """Return the offset from which the next poll reads."""
        return {self._partition: self._position}

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Yield the records of these ranges once more, in order; none of another stream."""
        for partition, start, end in ranges:
            at = start if partition == self._partition else end
            while batch := self._select(at, end, _READ_RECORDS):
                yield batch
                at = batch.offsets[-1] + 1

    def pause(self) -> None:
        """Let `poll` return nothing until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """End a pause."""
        self._is_paused = False

    def release(
        self,
        places: Mapping[Partition, int],  # noqa: ARG002 (nobody asks this source for them)
        *,
        needed_from: Mapping[Partition, int],
    ) -> None:
        """Let retention delete what lies below the position given last."""
        self._released = needed_from.get(self._partition, self._released)
        self._next_retention = self._monotonic()
        self._retain_if_due()

    def lag(self) -> Mapping[Partition, Lag]:
        """Return what lies beyond the position; gaps between offsets are counted as records."""
        with source_errors(self._path):
            row = self._connection.execute(
                "SELECT timestamp_ms FROM records WHERE offset >= ? ORDER BY offset LIMIT 1",
                (self._position,),
            ).fetchone()
            if row is None:
                return {self._partition: Lag(0, None)}
            return {self._partition: Lag(self._end() - self._position, row[0])}

    def retention(self) -> Retention:
        """Return that nothing is deleted before it was learned."""
        return Retention()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _next_batch(self, max_records: int) -> RecordBatch | None:
        batch = self._select(self._position, _NO_END, max_records)
        if batch is None or batch.offsets[0] != self._position:
            # Asked after the rows: what a deletion took from between them is then known.
            self._check_not_lost(self._position)
        if batch is not None:
            self._position = batch.offsets[-1] + 1
        return batch

    def _select(self, start: int, end: int, max_records: int) -> RecordBatch | None:
        rows: list[tuple[int, bytes | None, bytes, bytes, int]] = []
        num_bytes = 0
        # Closed at once: an open cursor holds its snapshot, and the WAL could only grow.
        with (
            source_errors(self._path),
            closing(self._connection.execute(_SELECT, (start, end, max_records))) as cursor,
        ):
            while num_bytes < _FETCH_BYTES and (some := cursor.fetchmany(_ROWS_AT_ONCE)):
                rows += some
                num_bytes += sum(
                    [len(row[2]) + len(row[3]) + (len(row[1]) if row[1] else 0) for row in some]
                )
        if not rows:
            return None
        return RecordBatch(self._partition, *zip(*rows, strict=True))

    def _check_not_lost(self, position: int) -> None:
        deleted_below = self._deleted_below()
        if position < deleted_below:
            raise RecordsLostError(
                OffsetRange(self._partition, position, deleted_below),
                "retention has deleted them",
            )

    def _deleted_below(self) -> int:
        with source_errors(self._path):
            (offset,) = self._connection.execute("SELECT deleted_below FROM log").fetchone()
            return int(offset)

    def _end(self) -> int:
        """Return the offset after the last one ever given."""
        row = self._connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'records'"
        ).fetchone()
        return FIRST_OFFSET if row is None else int(row[0]) + 1

    def _retain_if_due(self) -> None:
        """Delete one batch of what is released and too old or too much; go on while there is."""
        if self._monotonic() < self._next_retention:
            return
        try:
            is_done = self._delete_once()
        except SourceError:
            # A producer holds the lock, or the disk is full: reading goes on, deleting can wait.
            is_done = True
        if is_done:
            self._next_retention = self._monotonic() + _RETENTION_INTERVAL_SECONDS

    def _delete_once(self) -> bool:
        """Delete one batch without waiting for the write lock; return whether there is no more."""
        connection = self._connection
        with source_errors(self._path), without_waiting(connection), transaction(connection):
            end = self._end_of_deletion()
            if end is not None:
                connection.execute("DELETE FROM records WHERE offset < ?", (end,))
                connection.execute("UPDATE log SET deleted_below = ?", (end,))
        return end is None

    def _end_of_deletion(self) -> int | None:
        """Return below which offset to delete now; None if nothing is too old or too much."""
        end, num_bytes = None, 0
        cutoff_ms, surplus_below = self._cutoff_ms(), self._surplus_below()
        for offset, timestamp_ms, length in self._connection.execute(
            "SELECT offset, timestamp_ms, length(value) FROM records"
            " WHERE offset < ? ORDER BY offset LIMIT ?",
            (self._released, _DELETED_AT_ONCE),
        ):
            if timestamp_ms >= cutoff_ms and offset >= surplus_below:
                break
            end = offset + 1
            num_bytes += length
            if num_bytes >= _FETCH_BYTES:
                break
        return end

    def _cutoff_ms(self) -> float:
        hours = self._config.retention_hours
        return float("-inf") if hours is None else self._now() * 1000 - hours * _MS_PER_HOUR

    def _surplus_below(self) -> int:
        """Return below which offset lies what is too much, taking all records as equally large."""
        start = self._deleted_below()
        limit, used = self._config.retention_bytes, self._used_bytes()
        if limit is None or used <= limit:
            return start
        share = (used - limit) / used
        return start + math.ceil((self._end() - start) * share)

    def _used_bytes(self) -> int:
        """Return how much of the file is in use; pages that are free will be used again."""
        page_bytes, pages, free = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        return page_bytes * (pages - free)
