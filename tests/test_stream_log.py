"""Tests of the stream log: durable, in order, offsets never used again, nothing lost silently."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from records import INSTANCES

from teacherd.consumers.record import NewRecord, OffsetRange, Partition, Record
from teacherd.consumers.source import Lag, RecordsLostError, SourceError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig

HOUR_SECONDS = 3600.0

OpenLog = Callable[..., StreamLog]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        """Return the time."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands."""
    return Clock()


@pytest.fixture
def open_log(tmp_path: Path, clock: Clock) -> OpenLog:
    """Open the test's one log, as often as asked; all are closed in the end."""
    opened = []

    def build(**config: object) -> StreamLog:
        log = StreamLog(
            StreamLogConfig(path=str(tmp_path / "stream.db"), **config),
            now=clock.now,
            monotonic=clock.now,
            sleep=clock.sleep,
        )
        opened.append(log)
        return log

    yield build
    for log in opened:
        log.close()


def values(count: int, *, start: int = 0, size: int = 1) -> list[NewRecord]:
    """Return records whose values count up."""
    return [NewRecord(b"%d" % number * size) for number in range(start, start + count)]


def poll_all(log: StreamLog, max_records: int = 100) -> list[Record]:
    """Return everything that can be read now."""
    records: list[Record] = []
    while batch := log.poll(max_records, 0.0):
        records += batch
    return records


def test_what_was_appended_is_read_back_untouched(open_log: OpenLog, clock: Clock) -> None:
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


def test_an_append_is_all_or_nothing(open_log: OpenLog) -> None:
    """A record that cannot be stored takes its whole call back."""
    log = open_log()
    with pytest.raises(ValueError, match="headers"):
        log.append([NewRecord(b"good"), NewRecord(b"bad", (("\ud800", b""),))])

    assert log.poll(10, 0.0) is None
    assert 1 == log.append(values(1))


def test_an_empty_append_is_refused(open_log: OpenLog) -> None:
    """There is no last offset to return."""
    with pytest.raises(ValueError, match="records"):
        open_log().append([])


@pytest.mark.parametrize("record", [NewRecord("text"), NewRecord(b"x", (), "text")])
def test_a_record_that_is_not_of_bytes_is_refused(open_log: OpenLog, record: NewRecord) -> None:
    """The producer's mistake is not taken for damage of the file, and nothing is appended."""
    log = open_log()
    with pytest.raises(ValueError, match=r"^records: "):
        log.append([*values(1), record])

    assert [] == poll_all(log)


def test_a_poll_ends_with_its_timeout(open_log: OpenLog, clock: Clock) -> None:
    """It never sleeps beyond it."""
    before = clock.seconds

    assert open_log().poll(10, 0.5) is None
    assert pytest.approx(before + 0.5) == clock.seconds


def test_a_poll_sees_what_another_process_appends_while_it_waits(
    open_log: OpenLog, clock: Clock
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


def test_a_poll_returns_no_more_than_asked_for(open_log: OpenLog) -> None:
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
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch, parts: NewRecord
) -> None:
    """A poll ends early when its bytes are enough; nothing is left out."""
    monkeypatch.setattr("teacherd.consumers.stream_log._FETCH_BYTES", 1000)
    log = open_log()
    log.append([parts] * 300)

    first = log.poll(300, 0.0)

    assert first is not None
    assert len(first) < 300
    assert 300 == len(first) + len(poll_all(log))


def test_a_paused_log_returns_nothing_until_resumed(open_log: OpenLog) -> None:
    """Flow control loses nothing."""
    log = open_log()
    log.append(values(1))
    log.pause()

    assert log.poll(10, 0.1) is None
    log.resume()
    assert 1 == len(poll_all(log))


def test_seeking_reads_again_and_the_end_is_a_place(open_log: OpenLog) -> None:
    """Every place from the first record to the end can be sought."""
    log = open_log()
    log.append(values(5))
    for place in range(1, 7):
        log.seek({INSTANCES: place})

        assert list(range(place, 6)) == [record.offset for record in poll_all(log)]


def test_seeking_beyond_the_end_says_that_it_is_another_log(open_log: OpenLog) -> None:
    """A log restored from an older copy must not be read as if nothing had happened."""
    log = open_log()
    log.append(values(5))
    with pytest.raises(RecordsLostError, match="older copy") as caught:
        log.seek({INSTANCES: 9})

    assert OffsetRange(INSTANCES, 6, 9) == caught.value.lost


def test_ranges_are_read_without_moving_the_position(open_log: OpenLog) -> None:
    """In the order asked for, across the size of one fetch."""
    log = open_log()
    log.append(values(1000))
    log.seek({INSTANCES: 500})

    ranges = [OffsetRange(INSTANCES, 600, 1001), OffsetRange(INSTANCES, 2, 4)]
    offsets = [record.offset for batch in log.read(ranges) for record in batch]

    assert [*range(600, 1001), 2, 3] == offsets
    assert {INSTANCES: 500} == log.positions()


def test_of_another_stream_nothing_is_read(open_log: OpenLog) -> None:
    """A lineage that has moved here may ask for what it learned before: offsets begin alike."""
    log = open_log()
    log.append([NewRecord(b"a"), NewRecord(b"b")])
    others = [OffsetRange(Partition("moved", number), 1, 3) for number in range(2)]

    assert [] == list(log.read(others))


def test_lag_counts_what_lies_beyond_the_position(open_log: OpenLog, clock: Clock) -> None:
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


def test_nothing_is_deleted_before_it_is_released(open_log: OpenLog, clock: Clock) -> None:
    """However old it is and however much."""
    log = open_log(retention_hours=1.0, retention_bytes=1)
    log.append(values(50, size=1000))
    clock.seconds += 100 * HOUR_SECONDS

    assert 50 == len(poll_all(log))
    assert {INSTANCES: 1} == log.earliest()


def test_what_is_needed_again_is_kept_from_then_on(open_log: OpenLog, clock: Clock) -> None:
    """The word that came last counts, and stays where a later one does not speak of it."""
    log = open_log(retention_hours=1.0)
    log.append(values(5))
    log.release({INSTANCES: 5}, needed_from={INSTANCES: 5})
    log.release({INSTANCES: 5}, needed_from={INSTANCES: 2})
    clock.seconds += 2 * HOUR_SECONDS
    log.release({}, needed_from={})

    assert {INSTANCES: 2} == log.earliest()


def test_retention_by_age_deletes_what_is_old_and_released(open_log: OpenLog, clock: Clock) -> None:
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


def poll_all_from(log: StreamLog, place: int) -> list[Record]:
    """Return everything from a place on."""
    log.seek({INSTANCES: place})
    return poll_all(log)


def test_retention_by_bytes_keeps_the_newest(open_log: OpenLog) -> None:
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
    open_log: OpenLog, clock: Clock
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
    open_log: OpenLog, clock: Clock, tmp_path: Path
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


def test_offsets_are_never_used_again(open_log: OpenLog, clock: Clock) -> None:
    """Not even when every row is gone and the log was opened anew."""
    log = open_log(retention_hours=1.0)
    log.append(values(10))
    clock.seconds += 2 * HOUR_SECONDS
    log.release({INSTANCES: 11}, needed_from={INSTANCES: 11})
    assert {INSTANCES: 11} == log.earliest()
    log.close()

    assert 11 == open_log().append(values(1))


def test_records_that_were_deleted_are_reported_as_lost(open_log: OpenLog, clock: Clock) -> None:
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


def test_a_gap_is_no_loss(open_log: OpenLog, tmp_path: Path) -> None:
    """Offsets that never had a record are passed over."""
    log = open_log()
    log.append(values(10))
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("DELETE FROM records WHERE offset IN (1, 2, 5, 6)")
    connection.close()

    assert [3, 4, 7, 8, 9, 10] == [record.offset for record in poll_all(log)]


def test_a_busy_file_is_a_source_error(open_log: OpenLog, tmp_path: Path) -> None:
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


def test_a_full_disk_is_a_source_error_and_appends_nothing(open_log: OpenLog) -> None:
    """SQLite has rolled back by itself; the log goes on when there is room."""
    log = open_log()
    log.append(values(1))
    (pages,) = log._connection.execute("PRAGMA page_count").fetchone()
    log._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(SourceError, match="full"):
        log.append(values(100, size=1000))
    log._connection.execute("PRAGMA max_page_count = 100000")

    assert 2 == log.append(values(1))


def test_an_append_is_synced_before_it_returns(open_log: OpenLog) -> None:
    """A power cut takes back nothing that was acknowledged: WAL with a sync at each commit."""
    connection = open_log()._connection

    assert ("wal",) == connection.execute("PRAGMA journal_mode").fetchone()
    assert (2,) == connection.execute("PRAGMA synchronous").fetchone()


PRODUCER = """
import sys
from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
path, name, calls, per_call = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = StreamLog(StreamLogConfig(path=path))
for call in range(calls):
    last = log.append([NewRecord(f"{name} {call} {n}".encode() * 50) for n in range(per_call)])
    print(call, last, flush=True)
"""


def start_producer(path: Path, name: str, calls: int, per_call: int) -> subprocess.Popen[str]:
    """Start a process that appends and says so after each call."""
    arguments = [sys.executable, "-c", PRODUCER, str(path), name, str(calls), str(per_call)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_many_producers_append_at_once_while_one_reads(tmp_path: Path) -> None:
    """Also when all of them find no file: each record is read once, each producer's in order."""
    path = tmp_path / "stream.db"
    producers = [start_producer(path, name, 10, 3) for name in "abcd"]
    log = StreamLog(StreamLogConfig(path=str(path)))
    records: list[Record] = []
    deadline = time.monotonic() + 60
    while len(records) < 120 and time.monotonic() < deadline:
        records += log.poll(7, 0.1) or ()
    log.close()
    for producer in producers:
        producer.communicate()

    assert [0] * 4 == [producer.returncode for producer in producers]
    assert list(range(1, 121)) == [record.offset for record in records]
    for name in "abcd":
        own = [each.value for each in records if each.value.startswith(name.encode())]
        expected = [f"{name} {call} {n}".encode() * 50 for call in range(10) for n in range(3)]
        assert expected == own


def test_a_producer_killed_in_the_middle_leaves_whole_calls_only(tmp_path: Path) -> None:
    """What it was told is durable is there; of the call it died in, all or nothing."""
    path = tmp_path / "stream.db"
    producer = start_producer(path, "a", 100_000, 5)
    assert producer.stdout is not None
    for _ in range(5):
        acknowledged = producer.stdout.readline()
    producer.send_signal(signal.SIGKILL)
    rest, _ = producer.communicate()
    lines = [acknowledged, *[line + "\n" for line in rest.split("\n")[:-1]]]
    last_call, last_offset = map(int, lines[-1].split())

    log = StreamLog(StreamLogConfig(path=str(path)))
    records = poll_all(log)
    appended = log.append(values(1))
    log.close()

    calls = Counter(int(record.value.split()[1]) for record in records)
    assert {5} == set(calls.values())
    assert list(range(len(calls))) == sorted(calls)
    assert len(calls) in (last_call + 1, last_call + 2)
    assert len(records) >= last_offset
    assert len(records) + 1 == appended


READER = """
import sys
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
log = StreamLog(StreamLogConfig(path=sys.argv[1], retention_hours=1e-9))
while True:
    batch = log.poll(10, 1.0)
    if batch is not None:
        places = {batch.partition: batch.offsets[-1] + 1}
        log.release(places, needed_from=places)
        print(batch.offsets[-1], flush=True)
"""


def test_a_reader_killed_in_the_middle_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    """Deleting or reading when it dies: what was not released is all there."""
    path = tmp_path / "stream.db"
    log = StreamLog(StreamLogConfig(path=str(path)))
    log.append(values(5000))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    for _ in range(20):
        reader.stdout.readline()
    reader.send_signal(signal.SIGKILL)
    rest, _ = reader.communicate()
    whole_lines = rest.split("\n")[:-1]
    read_last = int(whole_lines[-1]) if whole_lines else 200

    earliest = log.earliest()[INSTANCES]
    offsets = [record.offset for record in poll_all_from(log, earliest)]
    log.close()

    # It dies between releasing and saying so at the latest.
    assert 1 < earliest <= read_last + 11
    assert list(range(earliest, 5001)) == offsets


@pytest.mark.parametrize(
    ("key", "value"),
    [("path", ""), ("topic", ""), ("retention_hours", 0.0), ("retention_bytes", -1)],
)
def test_a_setting_that_cannot_be_is_refused(key: str, value: object) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        StreamLogConfig(**{key: value})
