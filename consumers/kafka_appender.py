"""Appends records to a topic, durably on all replicas in sync before it returns."""

from collections.abc import Iterable, Mapping
from typing import Any

from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from teacherd.consumers.headers import HeadersError, pack_headers
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_errors import opening_errors, source_errors
from teacherd.consumers.kafka_producing import open_producer
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.source import SourceError

_SEND_SECONDS = 45.0
_LINGER_MS = 5
_BATCH_BYTES = 256 << 10


class KafkaAppender:
    """The way in for producers, as the stream log's `append` is.

    Args:
        partition: Where all records go; None lets their keys decide, or turns.

    Raises:
        SourceRefusedError: The settings are wrong, or do not let us in.
        SourceError: No broker answers.
    """

    def __init__(self, config: KafkaConfig, *, partition: int | None = None) -> None:
        self._config = config
        self._partition = partition
        with opening_errors(config.bootstrap_servers):
            self._producer = open_producer(config, linger_ms=_LINGER_MS, batch_size=_BATCH_BYTES)

    def append(self, records: Iterable[NewRecord]) -> Mapping[Partition, int]:
        """Append all records; return the last offset of each partition that took some.

        Raises:
            ValueError: A record can never be taken; those before it may have been.
            SourceError: Not all were taken for now; some may have been.
        """
        last: dict[Partition, int] = {}
        with source_errors(f"appending to the topic {self._config.topic}"):
            try:
                sent = [self._send(record) for record in records]
                for each in sent:
                    taken = each.get(_SEND_SECONDS)
                    partition = Partition(taken.topic, taken.partition)
                    last[partition] = max(taken.offset, last.get(partition, -1))
            except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
                raise ValueError(
                    f"records: one is larger than {self._config.topic} takes; make it smaller, or "
                    "raise the topic's max.message.bytes"
                ) from error
            except AssertionError as error:
                raise SourceError(f"Kafka, appending: {error}") from error
        if not last:
            raise ValueError("records: []: there must be at least one; skip the call")
        return last

    def close(self) -> None:
        """Close the connections."""
        self._producer.close(timeout=1.0)

    def _send(self, record: NewRecord) -> Any:  # noqa: ANN401 (kafka-python has no types)
        try:
            pack_headers(record.headers)
        except HeadersError as error:
            raise ValueError(f"records: {error}") from error
        return self._producer.send(
            self._config.topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            partition=self._partition,
        )
