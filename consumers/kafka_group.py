"""The consumer group: where other tools see how far records are decided, and who decides them."""

from collections.abc import Iterable, Mapping
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from teacherd.consumers.kafka_batches import ours, theirs
from teacherd.consumers.kafka_errors import source_errors, word
from teacherd.consumers.record import Partition
from teacherd.consumers.source import CommitError, SourceRefusedError

_PREFIX = "lineage:"
_TIMEOUT_MS = 10_000


class KafkaGroup:
    """Commits places after the fact, with the lineage's id beside them.

    The group has no members: partitions are assigned. What it holds is read only for partitions
    that the lineage has never seen, and to notice another lineage.

    Args:
        consumer: Of this group.
        name: The group's.
        lineage: Ours.
        take_over: Whether another lineage's commits may be overwritten, the first time.
    """

    def __init__(self, consumer: Any, *, name: str, lineage: str, take_over: bool) -> None:  # noqa: ANN401 (kafka-python has no types)
        self._consumer = consumer
        self._name = name
        self._lineage = lineage
        self._may_take_over = take_over

    def use(self, consumer: Any) -> None:  # noqa: ANN401 (as above)
        """Go on with a new client."""
        self._consumer = consumer

    def seeds(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return where the group says to begin, for those of which it says anything.

        Raises:
            SourceRefusedError: Another lineage has committed there.
            SourceError: The group's coordinator does not answer.
        """
        with source_errors("reading the group's offsets"):
            committed = self._committed(partitions)
        self._require_ours(committed)
        return {partition: found.offset for partition, found in committed.items()}

    def commit(self, places: Mapping[Partition, int]) -> None:
        """Note places, unless another lineage has begun to.

        Raises:
            SourceRefusedError: Another lineage has committed there.
            CommitError: The group's coordinator did not take them.
        """
        metadata = f"{_PREFIX}{self._lineage}"
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(place, metadata, -1)
            for partition, place in places.items()
        }
        try:
            self._require_ours(self._committed(places))
            self._consumer.commit(offsets, timeout_ms=_TIMEOUT_MS)
        except (KafkaError, OSError) as error:
            message = f"Kafka, committing to the group {self._name}: {word(error)}"
            raise CommitError(type(error).__name__, message) from error
        # Whoever takes over from now on has been told to, after us.
        self._may_take_over = False

    def _committed(self, partitions: Iterable[Partition]) -> dict[Partition, Any]:
        # At once: the public way asks for one partition, and a topic may have thousands of them.
        fetch = self._consumer._coordinator.fetch_committed_offsets  # noqa: SLF001 (see above)
        found = fetch(theirs(partitions), timeout_ms=_TIMEOUT_MS)
        return {ours(each): committed for each, committed in found.items() if committed.offset >= 0}

    def _require_ours(self, committed: Mapping[Partition, Any]) -> None:
        for (topic, number), found in committed.items():
            lineage = (found.metadata or "").removeprefix(_PREFIX)
            is_foreign = (found.metadata or "").startswith(_PREFIX) and lineage != self._lineage
            if is_foreign and not self._may_take_over:
                raise SourceRefusedError(
                    "group",
                    f"{self._name}: the lineage {lineage} learns from {topic}/{number} in this "
                    f"group, we are {self._lineage}; take another group, or set kafka.take_over: "
                    "true once the other daemon has stopped for good",
                )
