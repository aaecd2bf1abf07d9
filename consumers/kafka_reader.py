"""Reads ranges of a topic once more, on a client of its own."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import OffsetOutOfRangeError

from teacherd.consumers.kafka_batches import make_batch
from teacherd.consumers.kafka_client import make_client
from teacherd.consumers.kafka_config import KafkaConfig, client_options
from teacherd.consumers.kafka_errors import source_errors
from teacherd.consumers.kafka_unpacking import unpack_leanly
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import SourceError

_READ_RECORDS = 256
_POLL_MS = 500
_SILENCE_SECONDS = 60.0
"""A range whose records do not come for so long is not read to its end."""


def open_consumer(config: KafkaConfig, **options: object) -> Any:  # noqa: ANN401 (kafka-python has no types)
    """Make a consumer that never moves, resets or commits on its own."""
    consumer = make_client(KafkaConsumer, {**consumer_options(config), **options})
    unpack_leanly(consumer)
    return consumer


def consumer_options(config: KafkaConfig) -> dict[str, Any]:
    """Return what every consumer of ours is made with."""
    shared = client_options(config, KafkaConsumer.DEFAULT_CONFIG)
    ours = {
        "auto_offset_reset": "none",
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
        "metadata_max_age_ms": int(config.discovery_seconds * 1000),
        # A fetch of 1 MiB, the client's own default, is six photographs for each round trip.
        "max_partition_fetch_bytes": 8 << 20,
    }
    return {**ours, **shared}


def read_ranges(
    config: KafkaConfig,
    ranges: Sequence[OffsetRange],
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[RecordBatch]:
    """Yield the records of these ranges, in order; what is no longer there is not yielded.

    Raises:
        SourceError: The brokers do not answer.
    """
    with source_errors("reading again"):
        consumer = open_consumer(config)
    try:
        for each in ranges:
            if not _is_gone(consumer, each.partition, topic=config.topic):
                yield from _read_range(consumer, each, monotonic)
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


def _is_gone(consumer: Any, partition: Partition, *, topic: str) -> bool:  # noqa: ANN401 (as above)
    """Tell whether a partition is of a topic that was moved away from, or made anew with fewer.

    That the topic itself is not there may pass.
    """
    with source_errors("reading again"):
        numbers = consumer.partitions_for_topic(partition.topic)
    is_known = bool(numbers) or partition.topic != topic
    return is_known and partition.number not in numbers


def _read_range(
    consumer: Any,  # noqa: ANN401 (as above)
    wanted: OffsetRange,
    monotonic: Callable[[], float],
) -> Iterator[RecordBatch]:
    partition = TopicPartition(*wanted.partition)
    with source_errors("reading again"):
        consumer.assign([partition])
        start = max(wanted.start, consumer.beginning_offsets([partition])[partition])
        end = min(wanted.end, consumer.end_offsets([partition])[partition])
        if start >= end:
            return
        consumer.seek(partition, start)
    heard_at = monotonic()
    while True:
        with source_errors("reading again"):
            try:
                records = consumer.poll(_POLL_MS, _READ_RECORDS).get(partition, ())
            except OffsetOutOfRangeError:
                return
            position = consumer.position(partition)
        within = [record for record in records if record.offset < end]
        if within:
            yield make_batch(wanted.partition, within)
            heard_at = monotonic()
        if position >= end:
            return
        if monotonic() - heard_at > _SILENCE_SECONDS:
            topic, number = wanted.partition
            raise SourceError(f"Kafka, reading again: {topic}/{number} says no more at {position}")
