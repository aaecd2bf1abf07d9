"""A Kafka topic as a crash rig needs to know it."""

from collections.abc import Mapping, Sequence
from typing import Any

from accounting import Identity

from teacherd.consumers.record import Partition
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
