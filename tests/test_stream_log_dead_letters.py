"""Tests of the dead letters: each kept once, each requeued once, all untouched."""

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from records import INSTANCES, malformed_records

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters


@pytest.fixture
def config(tmp_path: Path) -> StreamLogConfig:
    """Name a log for one test."""
    return StreamLogConfig(path=str(tmp_path / "stream.db"))


@pytest.fixture
def dead_letters(config: StreamLogConfig) -> Iterator[StreamLogDeadLetters]:
    """Give dead letters whose clock stands."""
    letters = StreamLogDeadLetters(config, now=lambda: 5.0)
    yield letters
    letters.close()


def letter(offset: int, record: NewRecord | None = None) -> DeadLetter:
    """Return the letter of a record at an offset."""
    record = record or NewRecord(b"value %d" % offset, (("label", b"1"),), b"key")
    return DeadLetter(
        origin=INSTANCES,
        offset=offset,
        key=record.key,
        headers=pack_headers(record.headers),
        value=record.value,
        stage="decoding",
        reason="malformed",
        message="is none",
        timestamp_ms=1234,
    )


def requeued(config: StreamLogConfig) -> list[NewRecord]:
    """Return what is in the topic."""
    log = StreamLog(config)
    batch = log.poll(10_000, 0.0)
    log.close()
    return [NewRecord(each.value, each.headers, each.key) for each in batch or ()]


def test_letters_are_kept_as_they_came(dead_letters: StreamLogDeadLetters) -> None:
    """All fields, in order, numbered."""
    letters = [letter(7 + n, record) for n, record in enumerate(malformed_records())]
    dead_letters.add(letters)
    kept = dead_letters.list(10_000)

    assert letters == [each.letter for each in kept]
    assert list(range(1, len(letters) + 1)) == [each.number for each in kept]
    assert len(letters) == dead_letters.count()


def test_a_letter_of_the_same_origin_is_kept_once(dead_letters: StreamLogDeadLetters) -> None:
    """A daemon that was killed in between adds it again; another partition is another origin."""
    dead_letters.add([letter(1), letter(2)])
    dead_letters.add([letter(2), letter(3)])
    other = letter(3)
    elsewhere = DeadLetter(
        origin=Partition("instances", 1),
        offset=3,
        key=None,
        headers=b"",
        value=b"",
        stage=other.stage,
        reason=other.reason,
        message=other.message,
        timestamp_ms=0,
    )
    dead_letters.add([elsewhere])

    assert [letter(1), letter(2), letter(3), elsewhere] == [
        each.letter for each in dead_letters.list(10)
    ]


def test_damaged_headers_go_back_as_they_came(
    dead_letters: StreamLogDeadLetters, config: StreamLogConfig
) -> None:
    """Not wrapped as a header of their own: a repaired decoder sees what the first one saw."""
    damaged = dataclasses.replace(letter(1), headers=b"\x00\x03junk")
    dead_letters.add([damaged])
    kept = dead_letters.list(10)
    dead_letters.requeue()
    log = StreamLog(config)
    batch = log.poll(10, 0.0)
    log.close()

    assert [damaged] == [each.letter for each in kept]
    assert batch is not None
    assert [b"\x00\x03junk"] == list(batch.headers)


def test_letters_can_be_listed_in_pages(dead_letters: StreamLogDeadLetters) -> None:
    """Each page begins after the last number of the one before."""
    dead_letters.add([letter(offset) for offset in range(1, 8)])
    pages, after = [], 0
    while page := dead_letters.list(3, after=after):
        pages.append([each.letter.offset for each in page])
        after = page[-1].number

    assert [[1, 2, 3], [4, 5, 6], [7]] == pages


def test_requeued_letters_go_back_untouched_and_wait_no_more(
    dead_letters: StreamLogDeadLetters, config: StreamLogConfig
) -> None:
    """In the order they came, all of them, also more than one transaction takes."""
    records = malformed_records() * 2
    dead_letters.add([letter(n, record) for n, record in enumerate(records)])

    assert len(records) == dead_letters.requeue()
    assert records == requeued(config)
    assert 0 == dead_letters.count()
    assert [] == dead_letters.list(10)


def test_a_letter_is_requeued_once_however_often_it_is_asked_for(
    dead_letters: StreamLogDeadLetters, config: StreamLogConfig
) -> None:
    """Unknown numbers and those that went already count as nothing."""
    dead_letters.add([letter(1), letter(2), letter(3)])

    assert 2 == dead_letters.requeue([3, 1, 1, 99])
    assert 0 == dead_letters.requeue([1, 3])
    assert 1 == dead_letters.requeue()
    assert [b"value 1", b"value 3", b"value 2"] == [each.value for each in requeued(config)]


def test_a_requeued_letter_is_not_added_again(dead_letters: StreamLogDeadLetters) -> None:
    """A daemon that reads its origin once more must not bring it back."""
    dead_letters.add([letter(1)])
    dead_letters.requeue()
    dead_letters.add([letter(1)])

    assert 0 == dead_letters.count()


def test_requeueing_is_all_or_nothing_for_each_letter(
    dead_letters: StreamLogDeadLetters, config: StreamLogConfig
) -> None:
    """If the mark cannot be set, the record is not appended either."""
    dead_letters.add([letter(1)])
    dead_letters._connection.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON dead_letters "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    with pytest.raises(Exception, match="refused"):
        dead_letters.requeue()

    assert [] == requeued(config)
    assert 1 == dead_letters.count()


def test_letters_that_cannot_be_kept_are_a_source_error(
    dead_letters: StreamLogDeadLetters, config: StreamLogConfig
) -> None:
    """It may pass; none of them was kept."""
    dead_letters._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(config.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SourceError, match="locked"):
        dead_letters.add([letter(1), letter(2)])
    other.execute("ROLLBACK")
    other.close()

    assert 0 == dead_letters.count()


def test_retention_never_deletes_a_letter(
    dead_letters: StreamLogDeadLetters, config: StreamLogConfig
) -> None:
    """They wait for a decision, not for time to pass."""
    dead_letters.add([letter(1)])
    log = StreamLog(StreamLogConfig(path=config.path, retention_hours=1e-9, retention_bytes=1))
    last = log.append([NewRecord(b"x")])
    log.release({INSTANCES: last + 1}, needed_from={INSTANCES: last + 1})
    log.close()

    assert 1 == dead_letters.count()
