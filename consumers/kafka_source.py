"""The source contract on a Kafka topic, whose partitions are assigned, not subscribed."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import LogTruncationError, OffsetOutOfRangeError

from teacherd.consumers.kafka_batches import make_batch, ours, theirs
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_errors import opening_errors, source_errors
from teacherd.consumers.kafka_group import KafkaGroup
from teacherd.consumers.kafka_lag import KafkaLag
from teacherd.consumers.kafka_losses import KafkaLosses
from teacherd.consumers.kafka_offsets import ANSWER_TIMEOUT_MS, beginnings_of, ends_of, starts_of
from teacherd.consumers.kafka_producing import require_known
from teacherd.consumers.kafka_reader import open_consumer, read_ranges
from teacherd.consumers.kafka_topic import retention_of, topic_settings
from teacherd.consumers.kafka_turns import KafkaTurns
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import (
    Lag,
    Retention,
    SourceError,
)

_DISCOVERY_INTERVAL_SECONDS = 1.0
"""How often the client's own picture of the cluster, which it renews by itself, is looked at."""
_LAG_TIMEOUT_MS = 3000


class KafkaSource:
    """Reads a topic from the places it is told, and notes in the group how far it is decided.

    Positions are the client's own: transaction markers and aborted records leave gaps between
    offsets that are no loss and no lag.

    Args:
        lineage: Id of the lineage that learns here; committed beside the places.
        takes: Whether partitions of this number are read by this process; by default all are.
        now: Wall clock, seconds since the epoch.
        sleep: Waits for so many seconds.

    Raises:
        SourceRefusedError: The settings are wrong, or do not let us in.
        SourceError: No broker answers, or there is no such topic.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        lineage: str,
        takes: Callable[[int], bool] = lambda _: True,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._takes = takes
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        with opening_errors(config.bootstrap_servers):
            self._consumer = self._open()
        self._group = KafkaGroup(
            self._consumer, name=config.group, lineage=lineage, take_over=config.take_over
        )
        self._turns = KafkaTurns(self._consumer)
        self._losses = KafkaLosses(self._consumer, config.topic, sleep=sleep)
        self._lag = KafkaLag(stall_seconds=config.stall_seconds)
        self._waiting: deque[tuple[Partition, Sequence[Any]]] = deque()
        self._positions: dict[Partition, int] = {}
        self._newest_ms: dict[Partition, int] = {}
        self._known_lag: Mapping[Partition, Lag] = {}
        self._has_polled = False
        self._is_paused = self._was_paused = False
        self._is_broken = False
        self._next_discovery = monotonic() + _DISCOVERY_INTERVAL_SECONDS
        self._everyone: list[Partition] = []
        """Partitions of the topic."""
        self._partitions: list[Partition] = []
        """Those that are read here."""
        try:
            self._take_all_partitions()
        except SourceError:
            self.close()
            raise

    def partitions(self) -> Sequence[Partition]:
        """Return the topic's partitions that are read here, known at this moment."""
        return tuple(self._partitions)

    def earliest(self) -> Mapping[Partition, int]:
        """Return each partition's first offset that can still be read."""
        with source_errors("asking for the first offsets"):
            return beginnings_of(self._consumer, self._partitions)

    def topic_id(self) -> str | None:
        """Return the id that the cluster gave the topic; None from brokers before Kafka 2.8."""
        return self._losses.identity.current

    def first_places(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return what the group has committed, else the beginning that the settings name.

        Partitions of a topic that the lineage knows in part were added to it: they are read from
        their first record.
        """
        is_new_topic = set(partitions) >= set(self._partitions)
        return self._places_of(partitions, is_new_topic=is_new_topic)

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Move to these positions, and forget what was fetched from others.

        Raises:
            RecordsLostError: A position lies before what retention has left, or beyond the end, or
                is one of a topic that is no more.
        """
        self._waiting.clear()
        if self._is_broken:
            self._reopen()
        partitions = list(positions)
        self._losses.require_same_topic(positions)
        with source_errors("asking for the ends of partitions"):
            beginnings = beginnings_of(self._consumer, partitions)
            ends = ends_of(self._consumer, partitions)
        for partition, position in positions.items():
            if not beginnings[partition] <= position <= ends[partition]:
                self._losses.require_readable(partition, position)
        for partition, position in positions.items():
            self._consumer.seek(TopicPartition(*partition), position)
        self._positions.update(positions)

    def poll(self, max_records: int, timeout_seconds: float) -> RecordBatch | None:
        """Return the next records; wait for the first one, at most for so long."""
        if self._is_paused:
            self._sleep(timeout_seconds)
            return None
        if not self._waiting:
            self._discover_if_due()
            self._fetch(max_records, timeout_seconds)
        return self._next_batch()

    def positions(self) -> Mapping[Partition, int]:
        """Return for each partition the offset from which the next poll reads."""
        return dict(self._positions)

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Yield the records of these ranges once more, in order, on a client of its own."""
        return read_ranges(self._config, ranges, monotonic=self._monotonic)

    def pause(self) -> None:
        """Let `poll` return nothing until `resume`.

        Nothing expires meanwhile: assigned partitions know no deadline between polls, and the
        client looks after its connections in a thread of its own.
        """
        self._is_paused = self._was_paused = True

    def resume(self) -> None:
        """End a pause."""
        self._is_paused = False

    def release(
        self,
        places: Mapping[Partition, int],
        *,
        needed_from: Mapping[Partition, int],  # noqa: ARG002 (Kafka's retention asks nobody)
    ) -> None:
        """Commit the places to the group, with the lineage's id; those read elsewhere as well."""
        self._group.commit({each: places[each] for each in self._everyone if each in places})

    def lag(self) -> Mapping[Partition, Lag]:
        """Return what lies between the positions and the last stable offsets.

        Raises:
            SourceError: The brokers do not say, and no records came since they were last asked.
        """
        try:
            with source_errors("asking for the last stable offsets"):
                ends = ends_of(self._consumer, self._partitions, _LAG_TIMEOUT_MS)
        except SourceError:
            # One broker of several may be away: what comes from the others is worth more.
            if not self._has_polled:
                raise
            ends = {}
        self._has_polled = False
        oldest = self._newest_ms | {
            partition: records[0].timestamp for partition, records in self._waiting
        }
        self._known_lag = {
            **self._known_lag,
            **self._lag.update(
                ends,
                self._positions,
                oldest,
                is_paused=self._is_paused,
                now=self._now(),
                monotonic=self._monotonic(),
            ),
        }
        return self._known_lag

    def retention(self) -> Retention:
        """Return how long and how much the topic keeps, whether or not it was learned."""
        with source_errors("asking for the topic's settings"):
            return retention_of(topic_settings(self._config))

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close(autocommit=False, timeout_ms=1000)

    def _open(self) -> Any:  # noqa: ANN401 (kafka-python has no types)
        require_known(self._config.extra)
        return open_consumer(self._config, group_id=self._config.group)

    def _reopen(self) -> None:
        with source_errors("connecting again"):
            # The old one first goes when there is a new one: lag and places are asked meanwhile.
            consumer = self._open()
            self._consumer.close(autocommit=False, timeout_ms=1000)
            self._consumer = consumer
            self._turns = KafkaTurns(self._consumer)
            self._group.use(self._consumer)
            self._losses.use(self._consumer)
            self._consumer.assign(theirs(self._partitions))
        self._is_broken = False

    def _fetch(self, max_records: int, timeout_seconds: float) -> None:
        try:
            with source_errors("fetching"):
                fetched = self._poll(int(timeout_seconds * 1000), max_records)
        except SourceError:
            # Where a batch cannot be read the client goes round in circles: take a new one.
            self._is_broken = True
            raise
        if fetched or self._was_paused:
            self._require_unchanged_topic()
        self._waiting.extend((ours(each), records) for each, records in fetched.items())
        if not fetched:
            # Gaps at the end of what came before are passed by polling once more.
            self._positions |= {each: self._position(each) for each in self._positions}

    def _poll(self, timeout_ms: int, max_records: int) -> Mapping[Any, Sequence[Any]]:
        try:
            fetched = self._turns.poll(timeout_ms, max_records)
        except OffsetOutOfRangeError as error:
            (positions,) = error.args
            for each, position in positions.items():
                self._losses.require_readable(ours(each), position)
            return {}
        except LogTruncationError as error:
            raise self._losses.truncated(error, self._positions) from error
        return fetched

    def _next_batch(self) -> RecordBatch | None:
        if not self._waiting:
            return None
        partition, records = self._waiting.popleft()
        batch = make_batch(partition, records)
        self._positions[partition] = self._position(partition)
        self._newest_ms[partition] = batch.timestamps_ms[-1]
        self._has_polled = True
        return batch

    def _position(self, partition: Partition) -> int:
        try:
            with source_errors("asking the client for its position"):
                position: int = self._consumer.position(
                    TopicPartition(*partition), ANSWER_TIMEOUT_MS
                )
        except LogTruncationError as error:
            raise self._losses.truncated(error, self._positions) from error
        return position

    def _require_unchanged_topic(self) -> None:
        """See that what was fetched is not of another topic than what was read before.

        A fetch names the topic only. One that was open when it was deleted has failed, and had the
        client ask the cluster: what came behind waits for the answer.

        Raises:
            RecordsLostError: It is.
        """
        if self._was_paused or self._losses.identity.is_doubtful:
            self._losses.identity.refresh()
        self._was_paused = False
        self._losses.require_same_topic(self._positions)

    def _discover_if_due(self) -> None:
        """Take in partitions that were added, from their first record."""
        if self._monotonic() < self._next_discovery:
            return
        self._next_discovery = self._monotonic() + _DISCOVERY_INTERVAL_SECONDS
        self._everyone = self._find_partitions()
        added = [each for each in self._taken() if each not in self._partitions]
        if not added:
            return
        with source_errors("taking in new partitions"):
            places = self._places_of(added, is_new_topic=False)
            # Known to the group before anything is read: a restart begins there, not at `start_at`.
            self._group.commit(places)
            self._partitions = sorted({*self._partitions, *added})
            self._consumer.assign(theirs(self._partitions))
            for partition, place in places.items():
                self._consumer.seek(TopicPartition(*partition), place)
        self._positions |= places

    def _take_all_partitions(self) -> None:
        self._everyone = self._find_partitions()
        self._partitions = self._taken()
        if not self._everyone:
            topic = self._config.topic
            raise SourceError(f"Kafka has no topic {topic}; make it, or name another")
        self._consumer.assign(theirs(self._partitions))
        # The client now asks the cluster about the topic: here, so that no record waits for it.
        self._losses.identity.refresh()
        self._losses.identity.find_replaced(self._partitions)

    def _places_of(
        self, partitions: Sequence[Partition], *, is_new_topic: bool
    ) -> dict[Partition, int]:
        places = self._group.seeds(partitions)
        others = [partition for partition in partitions if partition not in places]
        if others:
            with source_errors("asking where to begin"):
                places |= (
                    starts_of(self._consumer, others, self._config)
                    if is_new_topic
                    else beginnings_of(self._consumer, others)
                )
        return places

    def _taken(self) -> list[Partition]:
        return [each for each in self._everyone if self._takes(each.number)]

    def _find_partitions(self) -> list[Partition]:
        with source_errors("looking for partitions"):
            numbers = self._consumer.partitions_for_topic(self._config.topic)
        return sorted(Partition(self._config.topic, number) for number in numbers)
