"""A task that has been cut: its ranges, and its instances in the order of their identities."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from teacherd.consumers.instance import Array
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch

Cause = Literal["count", "load", "capacity", "age", "drain", "gap", "drift"]
"""Why a task ends where it does: enough instances, as many as it had grown to, a full buffer, time,
at a request, because the records that should follow are gone, or because what arrives has drifted.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRange:
    """The part of one partition that a task takes."""

    partition: Partition
    start: int
    """Where the previous task ended."""
    end: int
    count: int
    """Number of records in [start, end)."""
    digest: str
    """Of those records, by RangeDigest."""
    rejected: tuple[int, ...]
    """Offsets of those that are no instances."""
    last_digest: str | None = None
    """Of the record at `end` - 1 alone, by which a stream is known again; None where none lies."""
    topic_id: str | None = None
    """Of the topic that they lay in, where its name may be given again."""

    @property
    def offsets(self) -> OffsetRange:
        """Return the range without what is in it."""
        return OffsetRange(self.partition, self.start, self.end)


@dataclass(frozen=True, kw_only=True, slots=True)
class BufferedTask:
    """Instances to be learned together, in the order of their identities (partition, offset)."""

    cause: Cause
    ranges: tuple[PlannedRange, ...]
    """In the order of partitions; those without records are left out."""
    inputs: Array
    """[N, ...]; [0] if there are no instances."""
    labels: npt.NDArray[np.int64]
    """[N], places among the classes that the decoder knows, below 0 the place in `names` from the
    end of the numbers: -1 is the first."""
    partitions: npt.NDArray[np.int64]
    """[N], places in `ranges`."""
    offsets: npt.NDArray[np.int64]
    """[N]"""
    ids: tuple[bytes | None, ...]
    """Of the producers."""
    event_times_ms: npt.NDArray[np.int64]
    """[N]"""
    names: tuple[str, ...] = ()
    """Classes that the decoder does not know, sorted."""
    named_records: tuple[RecordBatch, ...] = ()
    """The records of their instances, as they came."""
    taken: tuple["BufferedTask", ...] = ()
    """What it takes in of records that earlier tasks have deferred: a part for each of those."""

    @property
    def num_records(self) -> int:
        """Return how many records the task takes, rejected ones included."""
        return sum(planned.count for planned in self.ranges)

    def identities(self) -> Iterator[tuple[Partition, int]]:
        """Yield who each instance is."""
        places, offsets = self.partitions.tolist(), self.offsets.tolist()
        for place, offset in zip(places, offsets, strict=True):
            yield self.ranges[place].partition, offset
