"""The intake thread: owns the source, turns records into instances, fills the task buffer."""

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from teacherd.consumers.dead_letters import DeadLetter, DeadLetters
from teacherd.consumers.decoded_batch import DecodedBatch
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.instance import Rejected
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import (
    CommitError,
    RecordsLostError,
    Retention,
    Source,
    SourceError,
)
from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.draining import Draining
from teacherd.daemon.durable import failpoint
from teacherd.daemon.letter_requests import LetterRequests
from teacherd.daemon.load import Load
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.read_requests import ReadRequests
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.stop_rule import Observer, StopRule

_POLL_TIMEOUT_SECONDS = 0.2
_LOG_INTERVAL_SECONDS = 30.0
_FIRST_BACKOFF_SECONDS = 0.2
_LAG_INTERVAL_SECONDS = 1.0
_RETENTION_INTERVAL_SECONDS = 60.0
_RELEASE_INTERVAL_SECONDS = 5.0
_REREADING_INTERVAL_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeConfig:
    """How records are taken in."""

    poll_records: int = 256
    """Records asked for at once; more amortises the call, but leaves the processor's cache."""
    max_backoff_seconds: float = 60.0
    """Longest pause between attempts while the source does not answer."""
    max_rejected_share: float | None = None
    """The daemon stops when more of the newest records than this are no instances, before they are
    learned past; null never stops."""
    rejected_window_records: int = 1000
    """How many of the newest records that share is of."""

    def build_stop_rule(self) -> StopRule:
        """Return the rule that share and window are of."""
        return StopRule(
            max_share=self.max_rejected_share, window_records=self.rejected_window_records
        )

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.poll_records < 1:
            raise ValueError(f"poll_records: {self.poll_records} is less than 1; take 256")
        if self.max_rejected_share is not None and not 0 < self.max_rejected_share < 1:
            raise ValueError(
                f"max_rejected_share: {self.max_rejected_share}: must lie between 0 and 1; null "
                "never stops"
            )
        if self.rejected_window_records < 1:
            raise ValueError(
                f"rejected_window_records: {self.rejected_window_records}: must be above 0; take "
                "1000"
            )
        if self.max_backoff_seconds < _FIRST_BACKOFF_SECONDS:
            raise ValueError(
                f"max_backoff_seconds: {self.max_backoff_seconds} is less than "
                f"{_FIRST_BACKOFF_SECONDS}; take 60"
            )


@dataclass(frozen=True, slots=True)
class _Release:
    """A message from the learning thread; see `Source.release`."""

    places: Mapping[Partition, int]
    needed_from: Mapping[Partition, int]


class Intake:
    """Polls, decodes, sets bad records aside durably, appends; pauses when the buffer is full.

    Args:
        stop_rule: Ends the intake where too much is rejected.
        on_lost: What to do when records are gone: end, or go on behind them.
        draining: Told when the end of the stream was reached, if that is asked for.
        now: Wall clock, seconds since the epoch; it may be set while the process runs.
        monotonic: Seconds; what is done now and then goes by it.
        stop: Set when the process is to end; also cuts every pause short.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        source: Source,
        decoder: Decoder,
        dead_letters: DeadLetters,
        on_lost: Literal["stop", "continue"] = "stop",
        buffer: TaskBuffer,
        stop_rule: Observer,
        metrics: Metrics,
        board: StatusBoard,
        load: Load,
        draining: Draining,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self._config = config
        self._source = source
        self._decoder = decoder
        self._dead_letters = dead_letters
        self._on_lost = on_lost
        self._stop_rule = stop_rule
        self._buffer = buffer
        self._metrics = metrics
        self._board = board
        self._load = load
        self._draining = draining
        self._now = now
        self._monotonic = monotonic
        self._stop = stop
        self._shown: set[Partition] = set()
        self.requests = ReadRequests()
        """For whoever needs records once more."""
        self.letters = LetterRequests()
        """For whoever finds later that a record is not learned."""
        self._releases: queue.SimpleQueue[_Release] = queue.SimpleQueue()
        self._release: _Release | None = None
        self._next_release = 0.0
        self._next_rereading = 0.0
        self._taken = dict(source.positions())
        self._is_in_step = True
        self._backoff = 0.0
        self._failures = 0
        self._num_records = 0
        self._num_bytes = 0
        self._retention = Retention()
        self._next_retention = 0.0
        self._num_rejected = 0
        self._next_log = 0.0
        self._next_lag = 0.0
        self._log = structlog.get_logger()
        metrics.buffer_capacity.set(buffer.capacity_records)

    def release(
        self, places: Mapping[Partition, int], *, needed_from: Mapping[Partition, int]
    ) -> None:
        """Have the source told, by its own thread, what is decided and what is still needed."""
        self._releases.put(_Release(places, needed_from))

    def run(self) -> None:
        """Take records in until told to stop; then give the source back."""
        try:
            while not self._stop.is_set():
                self._board.beat("intake")
                self._turn()
            self._next_release = 0.0
            self._forward_releases()
        finally:
            self._decoder.close()
            self._dead_letters.close()
            self._source.close()

    def _turn(self) -> None:
        try:
            self.tick()
        except RecordsLostError as error:
            self._pass_over(error)
        except SourceError as error:
            self._survive(error)
        else:
            if self._failures:
                self._log.info("source_recovered", failures=self._failures)
                self._board.update("intake", error=None, failures=0)
            self._failures, self._backoff = 0, 0.0

    def tick(self) -> None:
        """Move one batch from the source to the buffer."""
        self._forward_releases()
        self._keep_letters()
        self._read_again()
        self._observe_lag()
        if self._draining.is_at_end:
            self._source.pause()
            self._stop.wait(_POLL_TIMEOUT_SECONDS)
            return
        is_full = self._buffer.is_full
        self._metrics.intake_paused.set(is_full)
        if is_full:
            self._source.pause()
            self._buffer.wait_for_room(_POLL_TIMEOUT_SECONDS)
            return
        self._source.resume()
        if not self._is_in_step:
            # A failure between poll and append: what was polled is not in the buffer.
            self._source.seek(self._taken)
        self._is_in_step = False
        batch = self._source.poll(self._config.poll_records, _POLL_TIMEOUT_SECONDS)
        self._metrics.last_poll.set(self._now())
        if batch is not None:
            self._take(batch)
        self._is_in_step = True
        if batch is None and self._draining.is_asked and not self._has_lag():
            self._draining.reach_end()

    def _read_again(self) -> None:
        """Read what somebody asks for once more; where that fails, what is new comes all the same.

        What is new may lie with other brokers, or in another topic.
        """
        if self._monotonic() < self._next_rereading:
            return
        try:
            self.requests.serve(self._source, on_batch=lambda: self._board.beat("intake"))
        except SourceError as error:
            self._next_rereading = self._monotonic() + _REREADING_INTERVAL_SECONDS
            self._log.warning("rereading_failed", error=str(error))

    def _keep_letters(self) -> None:
        kept = self.letters.serve(self._dead_letters)
        if kept:
            failpoint("dead_letters.dropped")
        for letter in kept:
            self._metrics.dead_letters.labels(letter.reason).inc()

    def _has_lag(self) -> bool:
        """Whether there is something to read: a source that is slow may also give nothing."""
        return any(lag.records for lag in self._source.lag().values())

    def _take(self, batch: RecordBatch) -> None:
        decoded = self._decoder.decode_batch(batch)
        if decoded.rejected:
            # Before the buffer: a plan names only rejects whose dead letters are durable.
            self._dead_letters.add(
                [
                    self._letter(batch, place, rejected)
                    for place, rejected in decoded.rejected.items()
                ]
            )
            failpoint("dead_letters.added")
        # Before the buffer, too: where it stops, these are read again by the next start.
        self._stop_rule.observe(len(batch), len(decoded.rejected))
        positions = self._source.positions()
        self._buffer.append(batch, decoded, positions)
        self._taken = dict(positions)
        self._count(batch, decoded)

    def _letter(self, batch: RecordBatch, place: int, rejected: Rejected) -> DeadLetter:
        return DeadLetter(
            origin=batch.partition,
            offset=batch.offsets[place],
            key=batch.keys[place],
            headers=batch.headers[place],
            value=batch.values[place],
            stage="decoding",
            reason=rejected.reason,
            message=rejected.message,
            timestamp_ms=int(self._now() * 1000),
        )

    def _count(self, batch: RecordBatch, decoded: DecodedBatch) -> None:
        metrics = self._metrics
        self._num_records += len(batch)
        self._num_bytes += batch.num_bytes
        self._num_rejected += len(decoded.rejected)
        topic, number = batch.partition
        metrics.records_consumed.labels(topic, number).inc(len(batch))
        metrics.record_bytes.inc(batch.num_bytes)
        for rejected in decoded.rejected.values():
            metrics.records_rejected.labels(rejected.reason).inc()
            metrics.dead_letters.labels(rejected.reason).inc()

    def _observe_lag(self) -> None:
        """Export what lies between the log's end and the buffer, once a second."""
        if self._monotonic() < self._next_lag:
            return
        self._next_lag = self._monotonic() + _LAG_INTERVAL_SECONDS
        oldest = None
        lags, positions = self._source.lag(), self._source.positions()
        for topic, number in self._shown - lags.keys():
            self._metrics.forget_partition(topic, number)
        self._shown = set(lags)
        for (topic, number), lag in lags.items():
            self._metrics.lag_records.labels(topic, number).set(lag.records)
            self._metrics.partition_stalled.labels(topic, number).set(lag.is_stalled)
            if lag.oldest_timestamp_ms is not None:
                oldest = min(oldest or lag.oldest_timestamp_ms, lag.oldest_timestamp_ms)
        self._board.update(
            "intake",
            records=self._num_records,
            rejected=self._num_rejected,
            positions={f"{t}/{n}": at for (t, n), at in positions.items()},
            lag={f"{topic}/{number}": lag.records for (topic, number), lag in lags.items()},
            oldest_timestamp_ms=oldest,
            stalled=[f"{t}/{n}" for (t, n), lag in lags.items() if lag.is_stalled],
            is_paused=self._buffer.is_full,
        )
        self._observe_buffer()
        self._load.observe(
            lags,
            positions,
            retention=self._current_retention(),
            mean_record_bytes=self._num_bytes / max(self._num_records, 1),
        )

    def _current_retention(self) -> Retention:
        """Return what the source deletes, asked again once a minute: somebody may change it."""
        if self._monotonic() >= self._next_retention:
            self._next_retention = self._monotonic() + _RETENTION_INTERVAL_SECONDS
            # It serves a warning only: whether the source answers, the next poll will tell.
            with contextlib.suppress(SourceError):
                self._retention = self._source.retention()
        return self._retention

    def _observe_buffer(self) -> None:
        records, size = self._buffer.num_records, self._buffer.num_bytes
        self._metrics.buffer_records.set(records)
        self._metrics.buffer_bytes.set(size)
        age = self._buffer.oldest_age_seconds
        self._board.update(
            "buffer",
            oldest_timestamp_ms=int((self._now() - age) * 1000) if records else None,
            records=records,
            instances=self._buffer.num_instances,
            bytes=size,
            capacity_records=self._buffer.capacity_records,
        )

    def _forward_releases(self) -> None:
        """Pass the newest release on; one that fails now is tried again later."""
        while not self._releases.empty():
            self._release = self._releases.get()
            self._next_release = 0.0
        if self._release is None or self._monotonic() < self._next_release:
            return
        failpoint("release.before")
        try:
            self._source.release(self._release.places, needed_from=self._release.needed_from)
        except CommitError as error:
            self._next_release = self._monotonic() + _RELEASE_INTERVAL_SECONDS
            self._metrics.commit_failures.labels(error.kind).inc()
            self._log.warning("release_failed", error=str(error))
        else:
            failpoint("release.done")
            self._release = None

    def _pass_over(self, error: RecordsLostError) -> None:
        """Go on behind records that are gone, if that is allowed; the next tick moves there."""
        lost = error.lost
        topic, number = lost.partition
        self._metrics.count_lost(error.kind, lost)
        if self._on_lost == "stop":
            raise error
        self._log.warning(
            "records_lost",
            topic=topic,
            partition=number,
            start=lost.start,
            end=lost.end,
            reason=error.reason,
        )
        self._buffer.skip(lost, error.reason, topic_id=error.topic_id)
        self._taken[lost.partition] = lost.end

    def _survive(self, error: SourceError) -> None:
        """Count, say so at most every 30 s, and pause for longer each time."""
        self._failures += 1
        self._metrics.source_failures.inc()
        self._board.update("intake", error=str(error), failures=self._failures)
        self._backoff = min(
            max(self._backoff * 2, _FIRST_BACKOFF_SECONDS), self._config.max_backoff_seconds
        )
        if self._monotonic() >= self._next_log:
            self._next_log = self._monotonic() + _LOG_INTERVAL_SECONDS
            self._log.warning(
                "source_unavailable",
                error=str(error),
                failures=self._failures,
                backoff_seconds=self._backoff,
            )
        self._stop.wait(self._backoff)
