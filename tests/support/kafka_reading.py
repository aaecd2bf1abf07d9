"""Kafka sources as tests open them, and what they read."""

import time
from dataclasses import replace

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_source import KafkaSource
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.record_batch import RecordBatch

LINEAGE = "aaaaaaaaaaaaaaaa"
WAIT_SECONDS = 300.0


class KafkaSources:
    """Sources on one Kafka: call it to open one.

    Args:
        bootstrap: Address of the brokers.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._opened: list[KafkaSource] = []

    def __call__(self, topic: str, *, lineage: str = LINEAGE, **settings: object) -> KafkaSource:
        """Open a source, in a group of the topic's own."""
        config = KafkaConfig(bootstrap_servers=self._bootstrap, topic=topic, group=f"{topic}-group")
        source = KafkaSource(replace(config, **settings), lineage=lineage)  # type: ignore[arg-type]
        self._opened.append(source)
        return source

    def close(self) -> None:
        """Close all that were opened."""
        for source in self._opened:
            source.close()


def values(count: int, *, first: int = 0) -> list[NewRecord]:
    """Return records whose values are numbers."""
    return [
        NewRecord(b"%d" % number, (("label", b"cat"),), b"key")
        for number in range(first, first + count)
    ]


def start(source: KafkaSource) -> dict[Partition, int]:
    """Seek to the first places, as an assembly does, and return them."""
    places = dict(source.first_places(source.partitions()))
    source.seek(places)
    source.release(places, needed_from={})
    return places


def take(source: KafkaSource, count: int, max_records: int = 100) -> list[RecordBatch]:
    """Poll until so many records have come."""
    batches: list[RecordBatch] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(map(len, batches)) < count:
        assert time.monotonic() < deadline, f"only {batches}"
        batch = source.poll(max_records, 0.2)
        if batch is not None:
            batches.append(batch)
    return batches


def settle(source: KafkaSource, positions: dict[Partition, int]) -> None:
    """Poll until the positions are these."""
    deadline = time.monotonic() + WAIT_SECONDS
    while source.positions() != positions:
        assert time.monotonic() < deadline, source.positions()
        assert source.poll(100, 0.1) is None
