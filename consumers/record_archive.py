"""The part of a source that a replay needs: what has been read before, once more."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch


class RecordArchive(Protocol):
    """Gives records back and changes nothing: no place, no commit, no retention.

    Every source is one, if it was opened for reading only.
    """

    def earliest(self) -> Mapping[Partition, int]:
        """Return each partition's first offset that can still be read (its end, if it is empty)."""

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Yield the records of these ranges once more, in order.

        What is no longer there is not yielded; the plan's count and digest find it out.
        """

    def close(self) -> None:
        """Give back files and connections; further calls are errors."""
