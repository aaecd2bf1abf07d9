"""A topic as somebody reads it who only looks things up: no group, no commits, no position."""

from collections.abc import Iterator, Mapping, Sequence

from teacherd.consumers.kafka_batches import ours, theirs
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_errors import opening_errors, source_errors
from teacherd.consumers.kafka_reader import open_consumer, read_ranges
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch


class KafkaArchive:
    """What is still there of a topic, for a replay.

    Raises:
        SourceRefusedError: The settings are wrong, or do not let us in.
        SourceError: No broker answers.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        with opening_errors(config.bootstrap_servers):
            self._consumer = open_consumer(config)

    def earliest(self) -> Mapping[Partition, int]:
        """Return each partition's first offset that can still be read."""
        topic = self._config.topic
        with source_errors("asking for the first offsets"):
            numbers = self._consumer.partitions_for_topic(topic)
            partitions = theirs(Partition(topic, number) for number in numbers)
            found = self._consumer.beginning_offsets(partitions)
        return {ours(each): offset for each, offset in found.items()}

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Yield the records of these ranges, in order; what is gone is not yielded."""
        return read_ranges(self._config, ranges)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close(autocommit=False, timeout_ms=1000)
