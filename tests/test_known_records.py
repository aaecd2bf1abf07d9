"""A stream log that was restored from an older copy and appended to since is told, not read on."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from assemblies import Bench, feature_records, make_bench
from growing_bench import PARTITION, learn
from records import INSTANCES
from stream_logs import Clock, StreamLogs, values

from teacherd.consumers.range_digest import digest_of
from teacherd.consumers.record import OffsetRange
from teacherd.consumers.source import RecordsLostError
from teacherd.consumers.stream_log import StreamLog
from teacherd.consumers.stream_log_copy import copy_stream_log
from teacherd.daemon.entries import ClosedRange, Entry, Plan, Skip
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.known_records import KnownRecords

MakeLog = Callable[[int], StreamLog]


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[MakeLog]:
    """Give a maker of logs of ten records, the last so many of which are others than planned."""
    opened: list[StreamLogs] = []

    def make(num_others: int) -> StreamLog:
        opened.append(StreamLogs(tmp_path / f"{len(opened)}.db", Clock()))
        log = opened[-1]()
        log.append([*values(10 - num_others), *values(num_others + 1, start=100)][:10])
        return log

    yield make
    for each in opened:
        each.close()


def plan(log: StreamLog, start: int, end: int) -> Plan:
    """Return the plan of a range of a log."""
    (last,) = log.read([OffsetRange(INSTANCES, end - 1, end)])
    closed = ClosedRange(
        topic=INSTANCES.topic,
        partition=INSTANCES.number,
        start=start,
        end=end,
        count=end - start,
        digest="",
        last_digest=digest_of(last),
    )
    return Plan(
        task=end,
        cause="count",
        head=0,
        seed=0,
        epochs=1,
        learning_rate=0.1,
        num_instances=end - start,
        ranges=(closed,),
    )


def known(entries: list[Entry]) -> KnownRecords:
    """Return what knows the records before the last plan's end."""
    last = next(each for each in reversed(entries) if isinstance(each, Plan)).ranges[0]
    assert last.last_digest is not None
    return KnownRecords({INSTANCES: last.last_digest}, lambda: entries)


def test_the_records_that_were_planned_are_known_again(make_log: MakeLog) -> None:
    """In a copy of the log as well."""
    entries: list[Entry] = [plan(make_log(0), 1, 6), plan(make_log(0), 6, 9)]

    known(entries).require_same(make_log(0), {INSTANCES: 9})
    known(entries).require_same(make_log(2), {INSTANCES: 9})  # what follows is new to us


@pytest.mark.parametrize(("num_others", "fork"), [(3, 6), (5, 6), (6, 1)])
def test_other_records_are_told_from_where_the_log_parts(
    make_log: MakeLog, num_others: int, fork: int
) -> None:
    """The end of the last range that is all there; else the beginning of the log."""
    first = make_log(0)
    entries: list[Entry] = [plan(first, 1, 6), plan(first, 6, 9)]
    with pytest.raises(RecordsLostError, match="restored from an older copy") as caught:
        known(entries).require_same(make_log(num_others), {INSTANCES: 9})

    assert (OffsetRange(INSTANCES, 9, fork), "truncated") == (caught.value.lost, caught.value.kind)


def test_what_was_planned_before_offsets_began_again_is_not_looked_at(make_log: MakeLog) -> None:
    """An earlier log's records say nothing about this one's."""
    first, second = make_log(0), make_log(9)
    topic, number = INSTANCES
    entries: list[Entry] = [
        plan(first, 1, 2),
        Skip(topic=topic, partition=number, start=2, end=1, reason="made anew"),
        plan(second, 1, 9),
    ]
    with pytest.raises(RecordsLostError) as caught:
        known(entries).require_same(first, {INSTANCES: 9})

    assert 1 == caught.value.lost.end


def test_what_retention_has_deleted_is_not_compared(make_log: MakeLog, tmp_path: Path) -> None:
    """It was learned, or it would be there."""
    entries: list[Entry] = [plan(make_log(0), 1, 9)]
    log = make_log(5)
    with closing(sqlite3.connect(tmp_path / "1.db")) as stream, stream:
        stream.execute("DELETE FROM records WHERE offset < 9")

    known(entries).require_same(log, {INSTANCES: 9})


def test_a_place_without_a_digest_is_not_compared(make_log: MakeLog) -> None:
    """Older logs have none."""
    log = make_log(0)

    KnownRecords({}, list).require_same(log, {INSTANCES: 9})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a lineage of 20 records in two tasks, over a log that was put back as of 12.

    Eleven others were appended since, so that it is longer than it was.
    """
    bench = make_bench(tmp_path)
    stream = tmp_path / "stream.db"
    bench.append(feature_records(12))
    copy_stream_log(stream, tmp_path / "copy.db")
    bench.append(feature_records(8, seed=1))
    assembly = bench.assemble()
    learn(assembly, 2)
    assembly.close()
    for path in tmp_path.glob("stream.db*"):
        path.unlink()
    (tmp_path / "copy.db").rename(stream)
    bench.append(feature_records(11, seed=2))
    return bench


def test_an_older_copy_that_has_grown_past_the_place_is_refused(bench: Bench) -> None:
    """As records that are gone are: exit 69, and what can be done."""
    assert 21 == bench.plans()[-1].ranges[0].end
    with pytest.raises(UnavailableError, match=r"\[11, 21\) are gone: other") as told:
        bench.assemble()

    assert "restored from an older copy" in str(told.value)
    assert "set on_lost_records: continue" in str(told.value)
    assert [20] == [sum(each.num_instances for each in bench.plans())]


def test_it_is_learned_from_where_it_parts_where_that_was_asked_for(bench: Bench) -> None:
    """No record of it is passed over; those of one task may be learned twice."""
    bench.settings["stream_log"] |= {"on_lost_records": "continue"}
    assembly = bench.assemble()
    learn(assembly, 1)
    assembly.close()
    (skip,) = [each for each in bench.entries() if isinstance(each, Skip)]
    last = bench.plans()[-1].ranges[0]

    assert (21, 11) == (skip.start, skip.end)
    assert (11, 21) == (last.start, last.end)
    assert 10.0 == bench.value("records_lost_total", reason="truncated")


def test_a_plan_has_the_digest_of_the_record_before_its_end(bench: Bench) -> None:
    """By which the next start knows the stream again."""
    assert all(each.ranges[0].last_digest for each in bench.plans())
    (closed,) = bench.plans()[0].ranges
    with closing(StreamLogs(bench.directory / "stream.db", Clock())) as logs:
        (batch,) = logs().read([OffsetRange(PARTITION, closed.end - 1, closed.end)])

        assert digest_of(batch) == closed.last_digest
