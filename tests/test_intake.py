"""The intake thread: nothing polled is dropped, bad records are set aside, a full buffer pauses."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from assemblies import CLASSES, Bench, Clock, bad_record, feature_records, make_bench
from structlog.testing import capture_logs

from teacherd.consumers.decoding import Decoder, DecodingConfig
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import CommitError, Lag, Retention, SourceError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.intake import Intake, IntakeConfig
from teacherd.daemon.load import Load
from teacherd.daemon.stop_rule import StopRule

PARTITION = Partition("instances", 0)


class FailingSource:
    """A stream log whose polls fail as often as a test says, before or after they have moved."""

    def __init__(self, log: StreamLog) -> None:
        self._log = log
        self.failures_before = 0
        self.failures_after = 0
        self.more_lag: dict[Partition, Lag] = {}
        self.kept: Retention | None = Retention()
        self.is_paused = False
        self.is_gone = False
        self.released: list[Mapping[Partition, int]] = []

    def poll(self, max_records: int, timeout_seconds: float) -> RecordBatch | None:
        """Poll, or fail."""
        if self.failures_before:
            self.failures_before -= 1
            raise SourceError("away")
        batch = self._log.poll(max_records, min(timeout_seconds, 0.0))
        if self.failures_after:
            self.failures_after -= 1
            raise SourceError("gone in the middle")
        return batch

    def partitions(self) -> Sequence[Partition]:
        """Pass on."""
        return self._log.partitions()

    def earliest(self) -> Mapping[Partition, int]:
        """Pass on."""
        return self._log.earliest()

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Pass on."""
        self._log.seek(positions)

    def positions(self) -> Mapping[Partition, int]:
        """Pass on."""
        return {**self._log.positions(), **dict.fromkeys(self.more_lag, 0)}

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Pass on."""
        return self._log.read(ranges)

    def pause(self) -> None:
        """Note it and pass on."""
        self.is_paused = True
        self._log.pause()

    def resume(self) -> None:
        """Note it and pass on."""
        self.is_paused = False
        self._log.resume()

    def topic_id(self) -> str | None:
        """Pass on."""
        return self._log.topic_id()

    def first_places(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Pass on."""
        return self._log.first_places(partitions)

    def release(
        self, places: Mapping[Partition, int], *, needed_from: Mapping[Partition, int]
    ) -> None:
        """Note it and pass on."""
        self.released.append(needed_from)
        if self.is_gone:
            raise CommitError("gone", "gone")
        self._log.release(places, needed_from=needed_from)

    def lag(self) -> Mapping[Partition, Lag]:
        """Pass on, with what a test adds."""
        return {**self._log.lag(), **self.more_lag}

    def retention(self) -> Retention:
        """Say what a test says, or fail."""
        if self.kept is None:
            raise SourceError("not authorised")
        return self.kept

    def close(self) -> None:
        """Pass on."""
        self._log.close()


class Setup:
    """An intake on a failing source, and what it feeds."""

    def __init__(self, directory: Path, tasks: TaskBufferConfig) -> None:
        self.bench: Bench = make_bench(directory)
        self.clock_is_off_by = 0.0
        self.stream = StreamLogConfig(path=self.bench.settings["stream_log"]["path"])
        self.source = FailingSource(StreamLog(self.stream))
        self.buffer = TaskBuffer(tasks, now=Clock())
        self.waits: list[float] = []
        self.stop = _NoWait(self.waits)
        self.draining = Draining()
        self.intake = Intake(
            IntakeConfig(poll_records=4, max_backoff_seconds=1.0),
            source=self.source,
            decoder=Decoder(DecodingConfig(), input_shape=(4,), classes=CLASSES),
            dead_letters=StreamLogDeadLetters(self.stream),
            buffer=self.buffer,
            stop_rule=StopRule(max_share=None, window_records=1000),
            metrics=self.bench.metrics,
            board=self.bench.board,
            load=Load(
                metrics=self.bench.metrics,
                board=self.bench.board,
                now=self.bench.clock,
                monotonic=self.bench.clock,
            ),
            draining=self.draining,
            now=lambda: self.bench.clock() + self.clock_is_off_by,
            monotonic=self.bench.clock,
            stop=self.stop,
        )

    def turn(self, times: int) -> None:
        """Turn the loop so often, surviving what it survives."""
        for _ in range(times):
            self.intake._turn()

    def close(self) -> None:
        """Let the intake give everything back, as its thread does at the end."""
        self.stop.set()
        self.intake.run()


class _NoWait(threading.Event):
    """An event whose waits are noted and take no time."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__()
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        """Note the wait."""
        self._waits.append(timeout or 0.0)
        return self.is_set()


MakeSetup = Callable[..., Setup]


@pytest.fixture
def make_setup(tmp_path: Path) -> Iterator[MakeSetup]:
    """Give a maker of intakes; close them all."""
    made: list[Setup] = []

    def make(**tasks: Any) -> Setup:  # noqa: ANN401 (fields of the configuration)
        made.append(Setup(tmp_path, TaskBufferConfig(min_instances=1, **tasks)))
        return made[-1]

    yield make
    for setup in made:
        setup.close()


def test_a_source_that_is_away_for_a_while_costs_nothing(make_setup: MakeSetup) -> None:
    """Each failure is counted and waited for, twice as long each time up to the bound."""
    setup = make_setup(instances=10)
    setup.bench.append(feature_records(10))
    setup.source.failures_before = 5
    setup.turn(9)

    assert [0.2, 0.4, 0.8, 1.0, 1.0] == setup.waits
    assert 5.0 == setup.bench.value("source_failures_total")
    assert 10 == setup.buffer.num_instances


def test_a_partition_that_is_not_read_any_more_has_no_series(make_setup: MakeSetup) -> None:
    """Else its last lag would be scraped, and alerted on, for ever."""
    setup = make_setup(instances=10)
    setup.bench.append(feature_records(10))
    gone = Partition("instances", 7)
    setup.source.more_lag = {gone: Lag(5, None)}
    setup.turn(1)

    assert 5 == setup.bench.value("consumer_lag_records", topic="instances", partition="7")
    assert 0 == setup.bench.value("partition_stalled", topic="instances", partition="7")

    setup.source.more_lag = {}
    setup.bench.clock.seconds += 2
    setup.turn(1)

    assert setup.bench.value("consumer_lag_records", topic="instances", partition="7") is None
    assert setup.bench.value("partition_stalled", topic="instances", partition="7") is None
    assert setup.bench.value("consumer_lag_records", topic="instances", partition="0") is not None


def test_what_was_polled_when_it_failed_is_polled_again(make_setup: MakeSetup) -> None:
    """A failure between poll and buffer loses no record and buffers none twice."""
    setup = make_setup(instances=10)
    setup.bench.append(feature_records(10))
    setup.turn(1)
    setup.source.failures_after = 2
    setup.turn(5)
    task = setup.buffer.cut("count")

    assert list(range(1, 11)) == task.offsets.tolist()
    assert [(1, 11, 10)] == [(each.start, each.end, each.count) for each in task.ranges]


def test_bad_records_are_in_the_dead_letters_and_in_the_plan(make_setup: MakeSetup) -> None:
    """With payload, origin and reason; the task names their offsets."""
    setup = make_setup(instances=2)
    good = feature_records(2)
    setup.bench.append([bad_record(), good[0], bad_record(), good[1]])
    setup.turn(1)
    task = setup.buffer.cut("count")
    letters = StreamLogDeadLetters(setup.stream)
    kept = letters.list(10)
    letters.close()

    assert [(PARTITION, 1), (PARTITION, 3)] == [
        (each.letter.origin, each.letter.offset) for each in kept
    ]
    assert [b"no array"] * 2 == [each.letter.value for each in kept]
    assert [(1, 3)] == [each.rejected for each in task.ranges]
    assert 2.0 == setup.bench.value("records_rejected_total", reason="malformed")
    assert 2.0 == setup.bench.value("dead_letters_total", reason="malformed")
    assert 4.0 == setup.bench.value("records_consumed_total", topic="instances", partition="0")


def test_a_full_buffer_pauses_and_room_resumes(make_setup: MakeSetup) -> None:
    """Memory stays bounded; nothing is read that cannot be held."""
    setup = make_setup(instances=8, max_records=8)
    setup.bench.append(feature_records(20))
    setup.turn(4)

    assert setup.source.is_paused
    assert 8 == setup.buffer.num_records
    assert 1.0 == setup.bench.value("intake_paused")

    setup.buffer.cut("count")
    setup.turn(1)

    assert not setup.source.is_paused
    assert 0.0 == setup.bench.value("intake_paused")
    assert 4 == setup.buffer.num_records


def test_releases_reach_the_source_in_its_own_thread(make_setup: MakeSetup) -> None:
    """They wait in a queue until the loop turns."""
    setup = make_setup(instances=8)
    setup.intake.release({PARTITION: 5}, needed_from={PARTITION: 3})

    assert [] == setup.source.released

    setup.turn(1)

    assert [{PARTITION: 3}] == setup.source.released


def test_a_release_that_fails_is_repeated_and_reading_goes_on(make_setup: MakeSetup) -> None:
    """It is counted, and only the newest one is tried again, after a while."""
    setup = make_setup(instances=100)
    setup.bench.append(feature_records(10))
    setup.source.is_gone = True
    setup.intake.release({PARTITION: 2}, needed_from={PARTITION: 2})
    setup.turn(2)
    setup.intake.release({PARTITION: 4}, needed_from={PARTITION: 4})
    setup.source.is_gone = False
    setup.bench.clock.seconds += 10
    setup.turn(1)

    assert [{PARTITION: 2}, {PARTITION: 4}] == setup.source.released
    assert 1.0 == setup.bench.value("commit_failures_total", error="gone")
    assert 10 == setup.buffer.num_records


def test_a_source_that_is_away_at_the_end_does_not_spoil_it(make_setup: MakeSetup) -> None:
    """What is not released now is released after the next task: the end is in order."""
    setup = make_setup(instances=8)
    setup.source.is_gone = True
    setup.intake.release({PARTITION: 5}, needed_from={PARTITION: 3})
    setup.stop.set()
    setup.intake.run()

    assert [{PARTITION: 3}] == setup.source.released
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        setup.source.lag()


def test_lag_and_buffer_are_exported(make_setup: MakeSetup) -> None:
    """What is not read yet and what waits, at most a second old."""
    setup = make_setup(instances=100)
    setup.bench.append(feature_records(10))
    setup.turn(1)
    setup.bench.clock.seconds += 2
    setup.turn(1)

    assert 6.0 == setup.bench.value("consumer_lag_records", topic="instances", partition="0")
    assert 4.0 == setup.bench.value("buffer_records")
    assert {"instances/0": 6} == setup.bench.board.snapshot()["intake"]["lag"]


def test_a_clock_that_is_set_back_stops_nothing(make_setup: MakeSetup) -> None:
    """As by NTP after a boot with a wrong one: lag, releases and rereading go on."""
    setup = make_setup(instances=100)
    setup.bench.append(feature_records(10))
    setup.source.is_gone = True
    setup.intake.release({PARTITION: 2}, needed_from={PARTITION: 2})
    setup.turn(1)
    setup.clock_is_off_by = -8 * 3600.0
    setup.source.is_gone = False
    setup.bench.clock.seconds += 10
    setup.turn(1)

    assert 6.0 == setup.bench.value("consumer_lag_records", topic="instances", partition="0")
    assert 2 == len(setup.source.released)


def test_the_margin_until_deletion_is_told(make_setup: MakeSetup) -> None:
    """By what the source keeps, asked again once a minute; where it does not say, by the last."""
    setup = make_setup(instances=10)
    setup.source.kept = Retention(seconds=1000.0)
    setup.bench.append(feature_records(4))
    for _ in range(2):
        setup.turn(1)
        setup.bench.clock.seconds += 50
    in_buffer = setup.bench.value("retention_margin_seconds")
    setup.source.kept = None
    setup.turn(1)

    assert 1000.0 == in_buffer
    assert 1000.0 == setup.bench.value("retention_margin_seconds")
    assert 0.0 == setup.bench.value("source_failures_total")


def test_too_many_bad_records_stop_before_they_are_passed(make_setup: MakeSetup) -> None:
    """Their dead letters are kept; the next start reads them again."""
    setup = make_setup(instances=100)
    setup.intake._stop_rule = StopRule(max_share=0.5, window_records=4)
    setup.bench.append([bad_record() for _ in range(4)])

    with pytest.raises(UnavailableError, match="4 of the last 4"):
        setup.turn(1)

    assert 0 == setup.buffer.num_records


def test_reading_once_more_shows_life_at_every_batch(tmp_path: Path) -> None:
    """A task may have more records than are read and decoded before a watchdog loses patience."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(300))
    assembly = bench.assemble()
    moments: list[float] = []

    def use(batches: Iterator[RecordBatch]) -> None:
        moments.extend(bench.board.seconds_since_beat()["intake"] for _ in batches)

    assembly.intake.requests.ask([OffsetRange(PARTITION, 1, 301)], use)
    assembly.intake.tick()
    assembly.close()

    assert [0.0, 0.0] == moments


def test_what_cannot_be_read_again_does_not_keep_back_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broker of several may be away: a retry waits for it, the other partitions do not."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(3))
    assembly = bench.assemble()
    answer = assembly.intake.requests.ask([OffsetRange(PARTITION, 1, 3)], list)

    def be_away(_: object) -> Iterator[RecordBatch]:
        raise SourceError("away")

    with monkeypatch.context() as away, capture_logs() as logs:
        away.setattr(assembly.intake._source, "read", be_away)
        for _ in range(3):
            assembly.intake.tick()

    assert assembly._buffer is not None
    assert 3 == assembly._buffer.num_records
    assert [("rereading_failed", "away")] == [(each["event"], each["error"]) for each in logs]
    assert not answer.done()

    bench.clock.seconds += 60
    assembly.intake.tick()
    assembly.close()

    assert [[1, 2]] == [list(batch.offsets) for batch in answer.result(timeout=0)]
