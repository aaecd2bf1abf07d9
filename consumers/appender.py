"""The contract of whatever producers append records to: the stream log, or a topic of Kafka."""

from collections.abc import Iterable
from typing import Protocol

from teacherd.consumers.record import NewRecord


class Appender(Protocol):
    """Where records go: the stream log or Kafka."""

    def append(self, records: Iterable[NewRecord]) -> object:
        """Append all of them, durably before it returns.

        Raises:
            SourceError: They were not taken, or nobody knows; the caller may send them again.
            ValueError: They can never be taken.
        """

    def close(self) -> None:
        """Give back files and connections."""
