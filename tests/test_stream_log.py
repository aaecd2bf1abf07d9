"""Tests of the stream log: append and read, positions, what the disk may do."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from records import INSTANCES
from stream_logs import Clock, StreamLogs, poll_all, values

from teacherd.consumers.record import NewRecord, OffsetRange, Partition
from teacherd.consumers.source import Lag, RecordsLostError, SourceError
from teacherd.consumers.stream_log import StreamLogConfig


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands."""
    return Clock()


@pytest.fixture
def open_log(tmp_path: Path, clock: Clock) -> Iterator[StreamLogs]:
    """Open the test's one log, as often as asked; all are closed in the end."""
    with closing(StreamLogs(tmp_path / "stream.db", clock)) as logs:
        yield logs


def test_what_was_appended_is_read_back_untouched(open_log: StreamLogs, clock: Clock) -> None:
    """Value, headers, key, order, offsets from 1, and the time of the append."""
    new = [
        NewRecord(b"one", (("label", b"3"), ("label", b""), ("\u00fc", b"\x00")), b"key"),
        NewRecord(b"", (), None),
        NewRecord(b"\x00" * 5000, (), b""),
    ]

    last = open_log().append(new)
    records = poll_all(open_log())

    assert 3 == last
    assert [1, 2, 3] == [record.offset for record in records]
    assert new == [NewRecord(each.value, each.headers, each.key) for each in records]
    assert {int(clock.seconds * 1000)} == {record.timestamp_ms for record in records}
    assert {INSTANCES} == {record.partition for record in records}


def test_an_append_is_all_or_nothing(open_log: StreamLogs) -> None:
    """A record that cannot be stored takes its whole call back."""
    log = open_log()
    with pytest.raises(ValueError, match="headers"):
        log.append([NewRecord(b"good"), NewRecord(b"bad", (("\ud800", b""),))])

    assert log.poll(10, 0.0) is None
    assert 1 == log.append(values(1))


def test_an_empty_append_is_refused(open_log: StreamLogs) -> None:
    """There is no last offset to return."""
    with pytest.raises(ValueError, match="records"):
        open_log().append([])


@pytest.mark.parametrize("record", [NewRecord("text"), NewRecord(b"x", (), "text")])
def test_a_record_that_is_not_of_bytes_is_refused(open_log: StreamLogs, record: NewRecord) -> None:
    """The producer's mistake is not taken for damage of the file, and nothing is appended."""
    log = open_log()
    with pytest.raises(ValueError, match=r"^records: "):
        log.append([*values(1), record])

    assert [] == poll_all(log)


def test_a_poll_ends_with_its_timeout(open_log: StreamLogs, clock: Clock) -> None:
    """It never sleeps beyond it."""
    before = clock.seconds

    assert open_log().poll(10, 0.5) is None
    assert pytest.approx(before + 0.5) == clock.seconds


def test_a_poll_sees_what_another_process_appends_while_it_waits(
    open_log: StreamLogs, clock: Clock
) -> None:
    """It returns as soon as there is something."""
    producer, log = open_log(), open_log()
    wake = clock.seconds + 0.1

    def sleep(seconds: float) -> None:
        clock.seconds += seconds
        if clock.seconds >= wake:
            producer.append(values(1))

    log._sleep = sleep
    batch = log.poll(10, 60.0)

    assert batch is not None
    assert [b"0"] == list(batch.values)
    assert clock.seconds < wake + 1


def test_a_poll_returns_no_more_than_asked_for(open_log: StreamLogs) -> None:
    """And goes on where it ended."""
    log = open_log()
    log.append(values(7))

    lengths = [len(log.poll(3, 0.0) or ()) for _ in range(4)]

    assert [3, 3, 1, 0] == lengths
    assert {INSTANCES: 8} == log.positions()


@pytest.mark.parametrize(
    "parts",
    [
        NewRecord(bytes(300)),
        NewRecord(b"", key=bytes(300)),
        NewRecord(b"", (("note", bytes(300)),)),
    ],
    ids=["value", "key", "headers"],
)
def test_large_records_do_not_add_up(
    open_log: StreamLogs, monkeypatch: pytest.MonkeyPatch, parts: NewRecord
) -> None:
    """A poll ends early when its bytes are enough; nothing is left out."""
    monkeypatch.setattr("teacherd.consumers.stream_log._FETCH_BYTES", 1000)
    log = open_log()
    log.append([parts] * 300)

    first = log.poll(300, 0.0)

    assert first is not None
    assert len(first) < 300
    assert 300 == len(first) + len(poll_all(log))


def test_a_paused_log_returns_nothing_until_resumed(open_log: StreamLogs) -> None:
    """Flow control loses nothing."""
    log = open_log()
    log.append(values(1))
    log.pause()

    assert log.poll(10, 0.1) is None
    log.resume()
    assert 1 == len(poll_all(log))


def test_seeking_reads_again_and_the_end_is_a_place(open_log: StreamLogs) -> None:
    """Every place from the first record to the end can be sought."""
    log = open_log()
    log.append(values(5))
    for place in range(1, 7):
        log.seek({INSTANCES: place})

        assert list(range(place, 6)) == [record.offset for record in poll_all(log)]


def test_seeking_beyond_the_end_says_that_it_is_another_log(open_log: StreamLogs) -> None:
    """A log restored from an older copy must not be read as if nothing had happened."""
    log = open_log()
    log.append(values(5))
    with pytest.raises(RecordsLostError, match="older copy") as caught:
        log.seek({INSTANCES: 9})

    assert OffsetRange(INSTANCES, 6, 9) == caught.value.lost


def test_ranges_are_read_without_moving_the_position(open_log: StreamLogs) -> None:
    """In the order asked for, across the size of one fetch."""
    log = open_log()
    log.append(values(1000))
    log.seek({INSTANCES: 500})

    ranges = [OffsetRange(INSTANCES, 600, 1001), OffsetRange(INSTANCES, 2, 4)]
    offsets = [record.offset for batch in log.read(ranges) for record in batch]

    assert [*range(600, 1001), 2, 3] == offsets
    assert {INSTANCES: 500} == log.positions()


def test_of_another_stream_nothing_is_read(open_log: StreamLogs) -> None:
    """A lineage that has moved here may ask for what it learned before: offsets begin alike."""
    log = open_log()
    log.append([NewRecord(b"a"), NewRecord(b"b")])
    others = [OffsetRange(Partition("moved", number), 1, 3) for number in range(2)]

    assert [] == list(log.read(others))


def test_lag_counts_what_lies_beyond_the_position(open_log: StreamLogs, clock: Clock) -> None:
    """With the time of the first of it."""
    log = open_log()
    first_ms = int(clock.seconds * 1000)
    assert {INSTANCES: Lag(0, None)} == log.lag()
    log.append(values(3))
    clock.seconds += 10
    log.append(values(2))

    assert {INSTANCES: Lag(5, first_ms)} == log.lag()
    log.seek({INSTANCES: 4})
    assert {INSTANCES: Lag(2, first_ms + 10_000)} == log.lag()
    poll_all(log)
    assert {INSTANCES: Lag(0, None)} == log.lag()


def test_a_busy_file_is_a_source_error(open_log: StreamLogs, tmp_path: Path) -> None:
    """It may pass, so it may be tried again; nothing was appended."""
    log = open_log()
    log._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "stream.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SourceError, match="locked"):
        log.append(values(1))
    other.execute("ROLLBACK")
    other.close()

    assert 1 == log.append(values(1))


def test_a_full_disk_is_a_source_error_and_appends_nothing(open_log: StreamLogs) -> None:
    """SQLite has rolled back by itself; the log goes on when there is room."""
    log = open_log()
    log.append(values(1))
    (pages,) = log._connection.execute("PRAGMA page_count").fetchone()
    log._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(SourceError, match="full"):
        log.append(values(100, size=1000))
    log._connection.execute("PRAGMA max_page_count = 100000")

    assert 2 == log.append(values(1))


def test_an_append_is_synced_before_it_returns(open_log: StreamLogs) -> None:
    """A power cut takes back nothing that was acknowledged: WAL with a sync at each commit."""
    connection = open_log()._connection

    assert ("wal",) == connection.execute("PRAGMA journal_mode").fetchone()
    assert (2,) == connection.execute("PRAGMA synchronous").fetchone()


@pytest.mark.parametrize(
    ("key", "value"),
    [("path", ""), ("topic", ""), ("retention_hours", 0.0), ("retention_bytes", -1)],
)
def test_a_setting_that_cannot_be_is_refused(key: str, value: object) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        StreamLogConfig(**{key: value})
