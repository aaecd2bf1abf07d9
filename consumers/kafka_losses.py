"""Finds out what is lost at a position of a Kafka topic: deleted, cut off, or of another topic."""

from collections.abc import Callable, Mapping
from typing import Any

from kafka.errors import LogTruncationError

from teacherd.consumers.kafka_batches import ours
from teacherd.consumers.kafka_errors import source_errors
from teacherd.consumers.kafka_identity import KafkaIdentity
from teacherd.consumers.kafka_offsets import beginnings_of, ends_of
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.source import MADE_ANEW, RecordsLostError

_CONFIRMATIONS = 5
_CONFIRMATION_SECONDS = 0.5


class KafkaLosses:
    """Asks the cluster, and says what is lost by raising RecordsLostError.

    Args:
        consumer: Of the topic.
        topic: Name.
        sleep: Waits for so many seconds.
    """

    def __init__(self, consumer: Any, topic: str, *, sleep: Callable[[float], None]) -> None:  # noqa: ANN401 (kafka-python has no types)
        self._consumer = consumer
        self._sleep = sleep
        self.identity = KafkaIdentity(consumer, topic)

    def use(self, consumer: Any) -> None:  # noqa: ANN401 (as above)
        """Go on with a new client."""
        self._consumer = consumer
        self.identity.use(consumer)

    def require_readable(self, partition: Partition, position: int) -> None:
        """See that a position that seems to be outside of a partition is inside.

        Raises:
            RecordsLostError: It is not.
        """
        self.identity.refresh()
        self.require_same_topic({partition: position})
        with source_errors("asking for the first offset"):
            beginning = beginnings_of(self._consumer, [partition])[partition]
        if position < beginning:
            raise RecordsLostError(
                OffsetRange(partition, position, beginning), "retention has deleted them"
            )
        self._confirm_end(partition, position)

    def require_same_topic(self, positions: Mapping[Partition, int]) -> None:
        """See that positions are not those of a topic that is no more.

        Raises:
            RecordsLostError: They are; once for each partition.
        """
        replaced = self.identity.find_replaced(positions)
        if replaced is None:
            return
        with source_errors("asking for the first offset of a topic made anew"):
            beginning = beginnings_of(self._consumer, [replaced])[replaced]
        topic_id = self.identity.accept(replaced)
        raise RecordsLostError(
            OffsetRange(replaced, positions[replaced], beginning),
            MADE_ANEW,
            kind="replaced",
            topic_id=topic_id,
        )

    def truncated(
        self, error: LogTruncationError, positions: Mapping[Partition, int]
    ) -> RecordsLostError:
        """Word that a new leader lacks what an old one had given us.

        Args:
            error: The client's.
            positions: Where the partitions were read up to.

        Raises:
            RecordsLostError: It is a topic that was made anew.
        """
        partition, divergence = next(iter(error.divergent_offsets.items()))
        lost = ours(partition)
        self.identity.refresh()
        self.require_same_topic({lost: positions[lost]})
        with source_errors("asking for the end"):
            end = ends_of(self._consumer, [lost])[lost] if divergence is None else divergence.offset
        return RecordsLostError(
            OffsetRange(lost, positions[lost], end),
            "a new leader of the partition lacks them (an unclean election?)",
            kind="truncated",
        )

    def _confirm_end(self, partition: Partition, position: int) -> None:
        """Make sure that the log ends before a position: a new leader may not know its end yet.

        Raises:
            RecordsLostError: It does.
        """
        for _ in range(_CONFIRMATIONS):
            with source_errors("asking for the end"):
                end = ends_of(self._consumer, [partition])[partition]
            if position <= end:
                return
            self._sleep(_CONFIRMATION_SECONDS)
        raise RecordsLostError(
            OffsetRange(partition, position, end),
            "the topic ends before them; it was truncated, or made anew",
            kind="truncated",
        )
