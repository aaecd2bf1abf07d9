"""Tests of the stream log's retention: what is deleted, when, and what a gap means."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from records import INSTANCES
from stream_logs import Clock, StreamLogs, poll_all, poll_all_from, values

from teacherd.consumers.record import NewRecord, OffsetRange
from teacherd.consumers.source import RecordsLostError

HOUR_SECONDS = 3600.0


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands."""
    return Clock()


@pytest.fixture
def open_log(tmp_path: Path, clock: Clock) -> Iterator[StreamLogs]:
    """Open the test's one log, as often as asked; all are closed in the end."""
    with closing(StreamLogs(tmp_path / "stream.db", clock)) as logs:
        yield logs


def test_nothing_is_deleted_before_it_is_released(open_log: StreamLogs, clock: Clock) -> None:
    """However old it is and however much."""
    log = open_log(retention_hours=1.0, retention_bytes=1)
    log.append(values(50, size=1000))
    clock.seconds += 100 * HOUR_SECONDS

    assert 50 == len(poll_all(log))
    assert {INSTANCES: 1} == log.earliest()


def test_what_is_needed_again_is_kept_from_then_on(open_log: StreamLogs, clock: Clock) -> None:
    """The word that came last counts, and stays where a later one does not speak of it."""
    log = open_log(retention_hours=1.0)
    log.append(values(5))
    log.release({INSTANCES: 5}, needed_from={INSTANCES: 5})
    log.release({INSTANCES: 5}, needed_from={INSTANCES: 2})
    clock.seconds += 2 * HOUR_SECONDS
    log.release({}, needed_from={})

    assert {INSTANCES: 2} == log.earliest()


def test_retention_by_age_deletes_what_is_old_and_released(
    open_log: StreamLogs, clock: Clock
) -> None:
    """Neither what is young nor what is not released."""
    log = open_log(retention_hours=1.0)
    log.append(values(10))
    clock.seconds += 2 * HOUR_SECONDS
    log.append(values(10))

    log.release({INSTANCES: 8}, needed_from={INSTANCES: 8})
    assert {INSTANCES: 8} == log.earliest()
    log.release({INSTANCES: 21}, needed_from={INSTANCES: 21})
    assert {INSTANCES: 11} == log.earliest()
    log.release({INSTANCES: 3}, needed_from={INSTANCES: 3})
    assert list(range(11, 21)) == [record.offset for record in poll_all_from(log, 11)]


def test_retention_by_bytes_keeps_the_newest(open_log: StreamLogs) -> None:
    """The file stays near its bound, and pages are used again."""
    log = open_log(retention_hours=None, retention_bytes=2_000_000)
    sizes = []
    for call in range(12):
        last = log.append(
            NewRecord(b"%04d" % n * 2500) for n in range(call * 100, call * 100 + 100)
        )
        poll_all(log)
        log.release({INSTANCES: last + 1}, needed_from={INSTANCES: last + 1})
        for _ in range(3):
            log.poll(1, 0.0)
        sizes.append(log._used_bytes())

    kept = [int(record.value[:4]) for record in poll_all(open_log())]
    assert list(range(1200 - len(kept), 1200)) == kept
    assert all(size <= 2_000_000 for size in sizes)
    assert sizes[-1] > 1_800_000


def test_retention_works_in_small_transactions_until_it_is_done(
    open_log: StreamLogs, clock: Clock
) -> None:
    """Producers never wait for a long deletion; polls carry it on."""
    log = open_log(retention_hours=1.0)
    log.append(values(1200))
    clock.seconds += 2 * HOUR_SECONDS
    poll_all(log, 2000)
    log.release({INSTANCES: 1201}, needed_from={INSTANCES: 1201})
    after_release = log.earliest()[INSTANCES]
    for _ in range(5):
        log.poll(1, 0.0)

    assert 501 == after_release
    assert {INSTANCES: 1201} == log.earliest()


def test_reading_goes_on_while_a_producer_keeps_retention_waiting(
    open_log: StreamLogs, clock: Clock, tmp_path: Path
) -> None:
    """Deleting never waits for the write lock: it is tried again later."""
    log = open_log(retention_hours=1.0)
    log.append(values(10))
    poll_all(log)
    clock.sleep(2 * HOUR_SECONDS)
    log.append(values(3, start=10))
    producer = sqlite3.connect(tmp_path / "stream.db", isolation_level=None)
    producer.execute("BEGIN IMMEDIATE")
    log.release({INSTANCES: 11}, needed_from={INSTANCES: 11})

    assert 3 == len(poll_all(log))
    assert 1 == log.earliest()[INSTANCES]

    producer.execute("ROLLBACK")
    producer.close()
    clock.sleep(60.0)
    poll_all(log)

    assert 11 == log.earliest()[INSTANCES]


def test_offsets_are_never_used_again(open_log: StreamLogs, clock: Clock) -> None:
    """Not even when every row is gone and the log was opened anew."""
    log = open_log(retention_hours=1.0)
    log.append(values(10))
    clock.seconds += 2 * HOUR_SECONDS
    log.release({INSTANCES: 11}, needed_from={INSTANCES: 11})
    assert {INSTANCES: 11} == log.earliest()
    log.close()

    assert 11 == open_log().append(values(1))


def test_records_that_were_deleted_are_reported_as_lost(open_log: StreamLogs, clock: Clock) -> None:
    """By seek as by poll, with the range; never passed over in silence."""
    reader, owner = open_log(), open_log(retention_hours=1.0)
    owner.append(values(10))
    reader.poll(3, 0.0)
    clock.seconds += 2 * HOUR_SECONDS
    owner.append(values(1))
    owner.release({INSTANCES: 9}, needed_from={INSTANCES: 9})

    with pytest.raises(RecordsLostError) as by_poll:
        reader.poll(10, 0.0)
    with pytest.raises(RecordsLostError) as by_seek:
        reader.seek({INSTANCES: 2})

    assert OffsetRange(INSTANCES, 4, 9) == by_poll.value.lost
    assert OffsetRange(INSTANCES, 2, 9) == by_seek.value.lost


def test_a_gap_is_no_loss(open_log: StreamLogs, tmp_path: Path) -> None:
    """Offsets that never had a record are passed over."""
    log = open_log()
    log.append(values(10))
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("DELETE FROM records WHERE offset IN (1, 2, 5, 6)")
    connection.close()

    assert [3, 4, 7, 8, 9, 10] == [record.offset for record in poll_all(log)]
