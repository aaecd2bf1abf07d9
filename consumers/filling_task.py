"""A task as it fills: takes records in the order of arrival up to an exact end."""

import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.buffered_task import BufferedTask, Cause, PlannedRange
from teacherd.consumers.decoding import Result
from teacherd.consumers.instance import Array, Instance
from teacherd.consumers.record import Partition, RangeDigest, Record

RECORD_BYTES = 64
"""What is kept of a record beside its array and its id."""


class TaskLimits(NamedTuple):
    """A task ends right after the record with which it reaches one of these."""

    instances: int
    records: int = sys.maxsize
    num_bytes: int = sys.maxsize


class _FillingRange:
    """One partition's part of the task."""

    def __init__(self, place: int, start: int) -> None:
        self.place = place
        self.start = start
        self.end = start
        self.count = 0
        self.digest = RangeDigest()
        self.rejected: list[int] = []

    def take(self, records: Sequence[Record], results: Sequence[Result]) -> None:
        assert records[0].offset >= self.end, "a record came twice, or out of order"
        self.digest.update(records)
        self.count += len(records)
        self.end = records[-1].offset + 1
        self.rejected += [
            record.offset
            for record, result in zip(records, results, strict=True)
            if not isinstance(result, Instance)
        ]


class FillingTask:
    """Keeps of its records only what learning and the plan need.

    Which record is its last depends on the records alone, not on how they were batched.

    Args:
        began_at: When its first record arrived, on the clock of whoever fills it.
    """

    def __init__(self, limits: TaskLimits, *, began_at: float = 0.0) -> None:
        self._limits = limits
        self._ranges: dict[Partition, _FillingRange] = {}
        self._inputs: Array = np.empty(0, dtype=np.uint8)
        self._labels = array("q")
        self._places = array("q")
        self._offsets = array("q")
        self._ids: list[bytes | None] = []
        self._event_times_ms = array("q")
        self.began_at = began_at
        self.num_records = 0
        self.num_bytes = 0
        self.cause: Cause | None = None
        """Why it is complete; None while it can take more."""

    @property
    def num_instances(self) -> int:
        """Return how many instances it has."""
        return len(self._labels)

    def take(
        self,
        records: Sequence[Record],
        results: Sequence[Result],
        starts: Mapping[Partition, int],
    ) -> int:
        """Take records up to its end; return how many.

        Args:
            records: Next in the order of arrival.
            results: What each of them is.
            starts: Where a partition's range begins; at its first record if it is not there.
        """
        taken = self._num_fitting(records, results)
        records, results = records[:taken], results[:taken]
        for low, high in _runs(records):
            self._take_run(records[low:high], results[low:high], starts)
        return taken

    def ends(self) -> dict[Partition, int]:
        """Return for each partition the offset after its last record."""
        return {partition: part.end for partition, part in self._ranges.items()}

    def build(self, cause: Cause, ends: Mapping[Partition, int]) -> BufferedTask:
        """Return the task in the order of identities; this one must not be used any more.

        Args:
            cause: Why it ends.
            ends: Where ranges end that were read beyond their last record.
        """
        partitions = sorted(self._ranges)
        ranges = tuple(self._planned(partition, ends) for partition in partitions)
        rank = np.empty(len(partitions), dtype=np.int64)
        for place, partition in enumerate(partitions):
            rank[self._ranges[partition].place] = place
        places, offsets = rank[_column(self._places)], _column(self._offsets)
        labels, times = _column(self._labels), _column(self._event_times_ms)
        inputs, ids = self._inputs[: self.num_instances], self._ids
        if len(partitions) > 1:
            order = np.lexsort((offsets, places))
            places, offsets, labels, times = (
                column[order] for column in (places, offsets, labels, times)
            )
            inputs, ids = inputs[order], [ids[place] for place in order.tolist()]
        return BufferedTask(
            cause=cause,
            ranges=ranges,
            inputs=inputs,
            labels=labels,
            partitions=places,
            offsets=offsets,
            ids=tuple(ids),
            event_times_ms=times,
        )

    def _num_fitting(self, records: Sequence[Record], results: Sequence[Result]) -> int:
        """Return how many of the records belong to this task; note the cause if it is complete."""
        instances = [result for result in results if isinstance(result, Instance)]
        num_bytes = self.num_bytes + sum(map(_num_bytes, results))
        if (
            self.num_instances + len(instances) < self._limits.instances
            and self.num_records + len(records) < self._limits.records
            and num_bytes < self._limits.num_bytes
        ):
            return len(records)
        return self._find_end(results)

    def _find_end(self, results: Sequence[Result]) -> int:
        num_instances, num_bytes = self.num_instances, self.num_bytes
        for taken, result in enumerate(results, start=1):
            num_instances += isinstance(result, Instance)
            num_bytes += _num_bytes(result)
            if num_instances == self._limits.instances:
                self.cause = "count"
                return taken
            is_full = num_bytes >= self._limits.num_bytes
            if is_full or self.num_records + taken == self._limits.records:
                self.cause = "capacity"
                return taken
        raise AssertionError("some limit is reached among these records")

    def _take_run(
        self, records: Sequence[Record], results: Sequence[Result], starts: Mapping[Partition, int]
    ) -> None:
        """Take records of one partition."""
        partition = records[0].partition
        part = self._ranges.get(partition)
        if part is None:
            start = starts.get(partition, records[0].offset)
            part = self._ranges[partition] = _FillingRange(len(self._ranges), start)
        part.take(records, results)
        self.num_records += len(records)
        self.num_bytes += sum(map(_num_bytes, results))
        pairs = zip(records, results, strict=True)
        kept = [(record[1], *result) for record, result in pairs if isinstance(result, Instance)]
        if kept:
            offsets, arrays, labels, ids, times = zip(*kept, strict=True)
            self._write(arrays)
            self._offsets.extend(offsets)
            self._labels.extend(labels)
            self._ids.extend(ids)
            self._event_times_ms.extend(times)
            self._places.extend([part.place] * len(kept))

    def _write(self, arrays: Sequence[Array]) -> None:
        first, low = arrays[0], self.num_instances
        if low == 0:
            # Memory for the whole task at once: the system gives a page when it is written.
            most = min(self._limits.instances, self._limits.num_bytes // first.nbytes + 1)
            self._inputs = np.empty((most, *first.shape), dtype=first.dtype)
        rows = self._inputs[low : low + len(arrays)]
        np.concatenate(arrays, out=rows.reshape(-1, *first.shape[1:]))

    def _planned(self, partition: Partition, ends: Mapping[Partition, int]) -> PlannedRange:
        part = self._ranges[partition]
        return PlannedRange(
            partition=partition,
            start=part.start,
            end=max(part.end, ends.get(partition, part.end)),
            count=part.count,
            digest=part.digest.hexdigest(),
            rejected=tuple(part.rejected),
        )


def _num_bytes(result: Result) -> int:
    if isinstance(result, Instance):
        return RECORD_BYTES + result.array.nbytes + len(result.id or b"")
    return RECORD_BYTES


def _runs(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Return where the runs of records of one partition begin and end."""
    partitions = [record.partition for record in records]
    bounds = [0]
    bounds += [
        place for place in range(1, len(partitions)) if partitions[place] != partitions[place - 1]
    ]
    return list(zip(bounds, [*bounds[1:], len(records)], strict=True))


def _column(numbers: "array[int]") -> npt.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)
