"""A task as it fills: takes records in the order of arrival up to an exact end."""

import sys
from array import array
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from teacherd.consumers.buffered_task import BufferedTask, Cause, PlannedRange
from teacherd.consumers.decoded_batch import DecodedBatch
from teacherd.consumers.instance import Array, Instance
from teacherd.consumers.range_digest import RangeDigest, digest_of
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch

RECORD_BYTES = 64
"""What is kept of a record beside its array and its id."""


class TaskLimits(NamedTuple):
    """A task ends right after the record with which it reaches one of these."""

    instances: int
    records: int = sys.maxsize
    num_bytes: int = sys.maxsize
    is_grown: bool = False
    """Whether it takes more instances than usual, because learning is behind."""


class _FillingRange:
    """One partition's part of the task."""

    def __init__(self, place: int, start: int, executor: Executor | None) -> None:
        self.place = place
        self.start = start
        self.end = start
        self.count = 0
        self.digest = RangeDigest(executor)
        self.rejected = array("q")
        self._last: RecordBatch | None = None

    def take(self, batch: RecordBatch, rejected: Iterable[int]) -> None:
        assert batch.offsets[0] >= self.end, "a record came twice, or out of order"
        self.digest.update(batch)
        self.count += len(batch)
        self.end = batch.offsets[-1] + 1
        self._last = batch.part(len(batch) - 1, len(batch))
        self.rejected.extend(batch.offsets[place] for place in rejected)

    def last_digest(self, end: int) -> str | None:
        """Return the digest of the record right before the end, None where none lies there."""
        return None if self._last is None or end != self.end else digest_of(self._last)


class FillingTask:
    """Keeps of its records only what learning and the plan need.

    Which record is its last depends on the records alone, not on how they were batched.

    Args:
        num_expected: How many instances it will have, as far as is known: a stream may be of
            rejected records for the most part.
        began_at: When its first record arrived, on the clock of whoever fills it.
        executor: Has one thread, in which records are hashed.
    """

    def __init__(
        self,
        limits: TaskLimits,
        *,
        num_expected: int | None = None,
        began_at: float = 0.0,
        executor: Executor | None = None,
        topic_id: str | None = None,
    ) -> None:
        self._limits = limits
        self._num_expected = limits.instances if num_expected is None else num_expected
        self._executor = executor
        self._topic_id = topic_id
        self._ranges: dict[Partition, _FillingRange] = {}
        self._inputs: Array = np.empty(0, dtype=np.uint8)
        self._labels = array("q")
        self._places = array("q")
        self._offsets = array("q")
        self._ids: list[bytes | None] = []
        self._event_times_ms = array("q")
        self._names: dict[str, int] = {}
        self._named_records: list[RecordBatch] = []
        self.began_at = began_at
        self.num_records = 0
        self.num_bytes = 0
        self.cause: Cause | None = None
        """Why it is complete; None while it can take more."""

    @property
    def is_grown(self) -> bool:
        """Whether it takes more instances than usual."""
        return self._limits.is_grown

    @property
    def num_instances(self) -> int:
        """Return how many instances it has."""
        return len(self._labels)

    def take(
        self, batch: RecordBatch, decoded: DecodedBatch, starts: Mapping[Partition, int]
    ) -> int:
        """Take records up to its end; return how many.

        Args:
            batch: Next in the order of arrival.
            decoded: What its records are.
            starts: Where a partition's range begins; at its first record if it is not there.
        """
        taken = self._num_fitting(batch, decoded)
        if taken < len(batch):
            batch, decoded = batch.part(0, taken), decoded.part(0, taken)
        part = self._ranges.get(batch.partition)
        if part is None:
            start = starts.get(batch.partition, batch.offsets[0])
            part = _FillingRange(len(self._ranges), start, self._executor)
            self._ranges[batch.partition] = part
        part.take(batch, decoded.rejected)
        self.num_records += len(batch)
        self.num_bytes += _num_bytes(batch, decoded)
        if decoded.places:
            self._keep(batch, decoded, part.place)
        if self.cause is not None:
            self._settle()
        return taken

    def end(self, cause: Cause) -> None:
        """Make it complete as it is."""
        self.cause = cause
        self._settle()

    def instances_from(self, start: int) -> tuple[Array, npt.NDArray[np.int64], tuple[str, ...]]:
        """Return copies of inputs and labels from the start-th on, in the order of arrival.

        Below 0 a label is -1 - the place of its class in the names that come with them.
        """
        inputs = self._inputs[start : self.num_instances].copy()
        return inputs, _column(self._labels)[start:], tuple(self._names)

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
        labels, times = self._sorted_labels(), _column(self._event_times_ms)
        inputs, ids = self._inputs[: self.num_instances], self._ids
        if len(partitions) > 1:
            # Stable, because each partition's offsets arrived in order.
            order = np.argsort(places, kind="stable")
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
            names=tuple(sorted(self._names)),
            named_records=tuple(self._named_records),
        )

    def _sorted_labels(self) -> npt.NDArray[np.int64]:
        """Return the labels for names that are sorted: their order must not be that of arrival."""
        labels = _column(self._labels)
        if self._names:
            order = {name: place for place, name in enumerate(sorted(self._names))}
            ranks = np.array([order[name] for name in self._names], dtype=np.int64)
            is_named = labels < 0
            labels[is_named] = -1 - ranks[-1 - labels[is_named]]
        return labels

    def _settle(self) -> None:
        """Let digests hold no more: many complete tasks may wait, and no limit counts that."""
        for each in self._ranges.values():
            each.digest.settle()

    def _num_fitting(self, batch: RecordBatch, decoded: DecodedBatch) -> int:
        """Return how many of the records belong to this task; note the cause if it is complete."""
        if (
            self.num_instances + len(decoded.places) < self._limits.instances
            and self.num_records + len(decoded) < self._limits.records
            and self.num_bytes + _num_bytes(batch, decoded) < self._limits.num_bytes
        ):
            return len(decoded)
        num_instances, num_bytes = self.num_instances, self.num_bytes
        for taken, result in enumerate(decoded, start=1):
            num_bytes += RECORD_BYTES
            if isinstance(result, Instance):
                num_instances += 1
                num_bytes += result.array.nbytes + len(result.id or b"")
                if result.name is not None:
                    num_bytes += batch.record_bytes(taken - 1)
            if num_instances == self._limits.instances:
                self.cause = "load" if self._limits.is_grown else "count"
                return taken
            is_full = num_bytes >= self._limits.num_bytes
            if is_full or self.num_records + taken == self._limits.records:
                self.cause = "capacity"
                return taken
        raise AssertionError("some limit is reached among these records")

    def _keep(self, batch: RecordBatch, decoded: DecodedBatch, place: int) -> None:
        """Copy the instances."""
        rows, low = decoded.rows, self.num_instances
        if low == 0:
            # Memory for the whole task at once: the system gives a page when it is written.
            most = min(self._num_expected, self._limits.num_bytes // max(1, rows[0].nbytes) + 1)
            self._inputs = np.empty((most, *rows[0].shape), dtype=rows[0].dtype)
        if low + len(rows) > len(self._inputs):
            more = np.empty((low + len(rows), *rows[0].shape), dtype=rows[0].dtype)
            self._inputs = np.concatenate([self._inputs[:low], more])
        if isinstance(rows, np.ndarray):
            self._inputs[low : low + len(rows)] = rows
        else:
            for number, row in enumerate(rows, start=low):
                self._inputs[number] = row
        self._offsets.extend(map(batch.offsets.__getitem__, decoded.places))
        self._labels.extend(self._labels_of(batch, decoded) if decoded.named else decoded.labels)
        self._ids.extend(decoded.ids)
        self._event_times_ms.extend(decoded.event_times_ms)
        self._places.extend(repeat(place, len(rows)))

    def _labels_of(self, batch: RecordBatch, decoded: DecodedBatch) -> Iterable[int]:
        """Return labels that stand for names as well, and keep the records of those.

        Whether they are learned is decided when the task is planned; till then they may have to be
        written down as they came.
        """
        self._named_records.append(batch.select(list(decoded.named)))
        names = self._names
        for place, label in zip(decoded.places, decoded.labels, strict=True):
            name = decoded.named.get(place)
            yield label if name is None else -1 - names.setdefault(name, len(names))

    def _planned(self, partition: Partition, ends: Mapping[Partition, int]) -> PlannedRange:
        part = self._ranges[partition]
        end = max(part.end, ends.get(partition, part.end))
        return PlannedRange(
            partition=partition,
            start=part.start,
            end=end,
            count=part.count,
            digest=part.digest.hexdigest(),
            last_digest=part.last_digest(end),
            rejected=tuple(part.rejected),
            topic_id=self._topic_id,
        )


def _num_bytes(batch: RecordBatch, decoded: DecodedBatch) -> int:
    named = sum(map(batch.record_bytes, decoded.named)) if decoded.named else 0
    return len(decoded) * RECORD_BYTES + decoded.num_bytes + named


def _column(numbers: "array[int]") -> npt.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)
