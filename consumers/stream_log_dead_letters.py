"""Dead letters in a table of the stream log's own file."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from teacherd.consumers.dead_letters import DeadLetter, KeptLetter
from teacherd.consumers.record import Partition
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.consumers.stream_log_file import open_stream_log, source_errors, transaction

_REQUEUED_AT_ONCE = 256
"""Letters in one transaction: producers wait for it."""

_INSERT = """
INSERT OR IGNORE INTO dead_letters
    (topic, partition, offset, timestamp_ms, stage, reason, message, key, headers, value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LIST = """
SELECT number, topic, partition, offset, timestamp_ms, stage, reason, message, key, headers, value
FROM dead_letters WHERE requeued_offset IS NULL AND number > ? ORDER BY number LIMIT ?
"""
_REQUEUE = """
INSERT INTO records (timestamp_ms, key, headers, value)
SELECT ?, key, headers, value FROM dead_letters WHERE number = ? AND requeued_offset IS NULL
"""
_Row = tuple[int, str, int, int, int, str, str, str, bytes | None, bytes, bytes]


class StreamLogDeadLetters:
    """The dead letters' contract on a SQLite file, on a connection of its own.

    Raises:
        StreamLogError: The file cannot be made, or is something else.
    """

    def __init__(self, config: StreamLogConfig, *, now: Callable[[], float] = time.time) -> None:
        self._path = Path(config.path)
        self._now = now
        self._connection = open_stream_log(self._path, config.topic)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them durably; one whose origin is already there is left as it is."""
        with source_errors(self._path), transaction(self._connection):
            self._connection.executemany(_INSERT, [_row(letter) for letter in letters])

    def list(self, limit: int, *, after: int = 0) -> Sequence[KeptLetter]:
        """Return those that wait, in order of their numbers, which are above `after`."""
        with source_errors(self._path):
            rows = self._connection.execute(_LIST, (after, limit)).fetchall()
        return [_kept(row) for row in rows]

    def count(self) -> int:
        """Return how many wait."""
        with source_errors(self._path):
            (number,) = self._connection.execute(
                "SELECT count(*) FROM dead_letters WHERE requeued_offset IS NULL"
            ).fetchone()
            return int(number)

    def requeue(self, numbers: Sequence[int] | None = None) -> int:
        """Append those that wait to the topic again, each exactly once; return how many."""
        waiting = self._waiting() if numbers is None else sorted(set(numbers))
        return sum(
            self._requeue(waiting[start : start + _REQUEUED_AT_ONCE])
            for start in range(0, len(waiting), _REQUEUED_AT_ONCE)
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _waiting(self) -> Sequence[int]:
        with source_errors(self._path):
            rows = self._connection.execute(
                "SELECT number FROM dead_letters WHERE requeued_offset IS NULL ORDER BY number"
            )
            return [number for (number,) in rows]

    def _requeue(self, numbers: Sequence[int]) -> int:
        """Append and mark in one transaction: either both happened or neither."""
        timestamp_ms, requeued = int(self._now() * 1000), 0
        with source_errors(self._path), transaction(self._connection):
            for number in numbers:
                cursor = self._connection.execute(_REQUEUE, (timestamp_ms, number))
                if cursor.rowcount == 1:
                    self._connection.execute(
                        "UPDATE dead_letters SET requeued_offset = ? WHERE number = ?",
                        (cursor.lastrowid, number),
                    )
                    requeued += 1
        return requeued


def _row(letter: DeadLetter) -> tuple[object, ...]:
    return (
        *letter.origin,
        letter.offset,
        letter.timestamp_ms,
        letter.stage,
        letter.reason,
        letter.message,
        letter.key,
        letter.headers,
        letter.value,
    )


def _kept(row: _Row) -> KeptLetter:
    number, topic, partition, offset, timestamp_ms, stage, reason, message, key, headers, value = (
        row
    )
    letter = DeadLetter(
        origin=Partition(topic, partition),
        offset=offset,
        key=key,
        headers=headers,
        value=value,
        stage=stage,
        reason=reason,
        message=message,
        timestamp_ms=timestamp_ms,
    )
    return KeptLetter(number=number, letter=letter)
