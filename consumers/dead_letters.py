"""The contract for where records go that are no instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from teacherd.consumers.record import Partition


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A record that could not be learned, untouched, with where and why it failed."""

    origin: Partition
    offset: int
    key: bytes | None
    headers: bytes
    """Packed, as they came: damaged ones go back damaged in the same way."""
    value: bytes
    stage: str
    """What refused it: decoding."""
    reason: str
    """One of few, such as `wrong_shape`."""
    message: str
    timestamp_ms: int
    """When it was set aside, milliseconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptLetter:
    """A dead letter where it lies."""

    number: int
    """Counts up in the order of arrival; names it in `requeue`."""
    letter: DeadLetter


class DeadLetters(Protocol):
    """Keeps every bad record until somebody decides what to do with it."""

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them, durably before it returns; one whose origin is already there is left as it is.

        Raises:
            SourceError: For now they cannot be kept; none of them was.
        """

    def list(self, limit: int, *, after: int = 0) -> Sequence[KeptLetter]:
        """Return those that wait, in order of their numbers, which are above `after`."""

    def count(self) -> int:
        """Return how many wait."""

    def requeue(self, numbers: Sequence[int] | None = None) -> int:
        """Append those that wait to their topic again, each exactly once; return how many.

        Key, headers and value go back untouched, under new offsets.

        Args:
            numbers: Which; None means all.
        """

    def close(self) -> None:
        """Give back files and connections; further calls are errors."""
