"""A Kafka topic as a crash rig needs to know it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accounting import Identity
from crash_rig import CrashRig, crash_settings
from kafka_service import KafkaService

from teacherd.consumers.record import NewRecord, Partition
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.source_opening import open_dead_letters


class KafkaStream:
    """A topic whose records were all produced before; offsets by number of the partition."""

    def __init__(self, settings: dict[str, Any], offsets: Mapping[int, Sequence[int]]) -> None:
        self._config = parse(Config, settings, origin="test")
        self._offsets = offsets

    def records(self) -> Mapping[Partition, Sequence[int]]:
        """Return the offsets that were produced."""
        topic = self._config.kafka.topic
        return {Partition(topic, number): offsets for number, offsets in self._offsets.items()}

    def letters(self) -> list[Identity]:
        """Return the origins of the dead letters in the topic for them."""
        letters = open_dead_letters(self._config, keep_large=lambda _letter: None)
        kept = letters.list(1 << 30)
        letters.close()
        return [(each.letter.origin, each.letter.offset) for each in kept]


def make_kafka_rig(
    directory: Path,
    base: Path,
    kafka: KafkaService,
    records: Sequence[NewRecord],
    *,
    num_tasks: int | None,
    tasks: dict[str, Any] | None = None,
) -> CrashRig:
    """Return a lineage on a topic of its own: of one partition, of three to the end of the data."""
    num_partitions = 1 if num_tasks is not None else 3
    topic = kafka.create_topic(partitions=num_partitions)
    offsets = {
        number: kafka.produce(topic, records[number::num_partitions], partition=number)
        for number in range(num_partitions)
    }
    settings = {
        **crash_settings(directory, base),
        "source": "kafka",
        "kafka": {"bootstrap_servers": kafka.bootstrap, "topic": topic, "group": f"{topic}-group"},
    }
    settings["tasks"] = tasks or settings["tasks"]
    return CrashRig(directory, settings, KafkaStream(settings, offsets), num_tasks=num_tasks)
