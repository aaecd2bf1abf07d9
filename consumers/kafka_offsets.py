"""Asks a cluster where partitions begin and end, by our names of them."""

from collections.abc import Sequence
from typing import Any

from teacherd.consumers.kafka_batches import ours, theirs
from teacherd.consumers.kafka_config import LATEST, KafkaConfig
from teacherd.consumers.record import Partition

ANSWER_TIMEOUT_MS = 10_000


def beginnings_of(consumer: Any, partitions: Sequence[Partition]) -> dict[Partition, int]:  # noqa: ANN401 (kafka-python has no types)
    """Return the first offsets that can be read."""
    found = consumer.beginning_offsets(theirs(partitions), ANSWER_TIMEOUT_MS)
    return {ours(each): offset for each, offset in found.items()}


def ends_of(
    consumer: Any,  # noqa: ANN401 (as above)
    partitions: Sequence[Partition],
    timeout_ms: int = ANSWER_TIMEOUT_MS,
) -> dict[Partition, int]:
    """Return the last stable offsets: what a reader of committed records can reach."""
    found = consumer.end_offsets(theirs(partitions), timeout_ms)
    return {ours(each): offset for each, offset in found.items()}


def starts_of(
    consumer: Any,  # noqa: ANN401 (as above)
    partitions: Sequence[Partition],
    config: KafkaConfig,
) -> dict[Partition, int]:
    """Return where `start_at` is."""
    if config.start_ms is None:
        is_latest = config.start_at == LATEST
        return (ends_of if is_latest else beginnings_of)(consumer, partitions)
    times = dict.fromkeys(theirs(partitions), config.start_ms)
    found = consumer.offsets_for_times(times, ANSWER_TIMEOUT_MS)
    later = {ours(each): at.offset for each, at in found.items() if at is not None}
    return ends_of(consumer, partitions) | later
