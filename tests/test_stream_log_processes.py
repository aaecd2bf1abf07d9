"""Tests of the stream log among processes: many producers, and one killed in the middle."""

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from records import INSTANCES
from stream_logs import poll_all, values

from teacherd.consumers.record import Record
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig


def poll_all_from(log: StreamLog, place: int) -> list[Record]:
    """Return everything from a place on."""
    log.seek({INSTANCES: place})
    return poll_all(log)


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
    deadline = time.monotonic() + 300
    while len(records) < 120:
        assert time.monotonic() < deadline, f"only {len(records)} records have come"
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
