"""Lets the partitions of a kafka-python consumer take turns.

The client empties what it has fetched of one partition before it turns to the next, thousands of
records later: while a backlog is read, a task would be of one partition, and where keys are classes
of few classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import kafka

from teacherd.consumers.kafka_unpacking import CHECKED_VERSIONS

Fetched = Mapping[Any, Sequence[Any]]


class KafkaTurns:
    """Polls a consumer for the partitions that it was not the turn of.

    By pausing the others for a poll that waits for nothing. Only in versions of the client that
    were checked, because what they set aside for paused partitions needs a hand to come back.

    Args:
        consumer: With partitions assigned.
    """

    def __init__(self, consumer: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
        self._consumer = consumer
        self._is_checked = kafka.__version__ in CHECKED_VERSIONS
        self._last: list[Any] = []

    def poll(self, timeout_ms: int, max_records: int) -> Fetched:
        """Return the next records, of other partitions than the last ones if any have come."""
        fetched = self._poll_others(max_records)
        if not fetched:
            fetched = self._poll(timeout_ms, max_records)
        self._last = list(fetched)
        return fetched

    def _poll_others(self, max_records: int) -> Fetched:
        last = self._last
        if not (self._is_checked and last and set(last) < self._consumer.assignment()):
            return {}
        self._consumer.pause(*last)
        try:
            return self._poll(0, max_records)
        finally:
            self._consumer.resume(*last)

    def _poll(self, timeout_ms: int, max_records: int) -> Fetched:
        if self._is_checked:
            fetcher = self._consumer._fetcher  # noqa: SLF001 (there is no public way)
            # What is set aside comes back when nothing is in hand; something empty is not nothing.
            if not fetcher._next_partition_records:  # noqa: SLF001
                fetcher._next_partition_records = None  # noqa: SLF001
        fetched: Fetched = self._consumer.poll(timeout_ms, max_records)
        return fetched
