"""Which instances of a task are held out: by a hash, never by chance, and for all time the same.

An instance that its producer gave an id is found by it, so that copies of one picture never stand
on both sides; any other by its identity (topic, partition, offset).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.instance import Array
from teacherd.consumers.record import Partition
from teacherd.daemon.entries import ClosedRange

_HASH_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Instances of one task that are never trained on."""

    task: int
    """0 for the base holdout."""
    inputs: Array
    """[N, ...]"""
    labels: npt.NDArray[np.int64]
    """[N]"""

    @property
    def num_bytes(self) -> int:
        """Return how much memory it takes."""
        return self.inputs.nbytes + self.labels.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """A part of a task, in the order of identities."""

    inputs: Array
    labels: npt.NDArray[np.int64]
    event_times_ms: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]


def hold_out(task: BufferedTask, ranges: Sequence[ClosedRange], share: float) -> list[ClosedRange]:
    """Return a task's ranges with the offsets that are held out."""
    if share == 0:
        return list(ranges)
    is_held_out = _hashes(task) < share * 2.0 ** (8 * _HASH_BYTES)
    places = {planned.partition: place for place, planned in enumerate(task.ranges)}
    return [
        replace(
            closed,
            held_out=tuple(
                task.offsets[is_held_out & (task.partitions == places[_partition(closed)])].tolist()
            ),
        )
        for closed in ranges
    ]


def split(task: BufferedTask, ranges: Sequence[ClosedRange]) -> tuple[Instances, Instances]:
    """Return what is to be learned and what is held out, as the plan's ranges say."""
    is_held_out = np.zeros(len(task.labels), dtype=np.bool_)
    held_out = {_partition(closed): closed.held_out for closed in ranges}
    for place, planned in enumerate(task.ranges):
        offsets = held_out.get(planned.partition, ())
        is_held_out |= (task.partitions == place) & np.isin(task.offsets, offsets)
    hashes = _hashes(task) if is_held_out.any() else np.zeros(len(task.labels), dtype=np.uint64)
    learned, kept = (
        Instances(
            task.inputs[mask] if is_held_out.any() else task.inputs[: int(mask.sum())],
            task.labels[mask],
            task.event_times_ms[mask],
            hashes[mask],
        )
        for mask in (~is_held_out, is_held_out)
    )
    return learned, kept


def build_holdout(task: int, instances: Instances, *, most: int, most_bytes: int) -> Holdout:
    """Keep so many of the instances that are held out, as many of each class as there are.

    Which ones follows from their hashes, so that it is the same whenever they are gathered.
    """
    if len(instances.labels):
        most = min(most, most_bytes // max(1, instances.inputs[0].nbytes))
    if len(instances.labels) > most:
        chosen = _balanced(instances.labels, instances.hashes, most)
        return Holdout(task, instances.inputs[chosen], instances.labels[chosen])
    return Holdout(task, instances.inputs, instances.labels)


def _balanced(
    labels: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64], most: int
) -> npt.NDArray[np.int64]:
    """Return places, ascending: the first of each class by hash, then the second of each, ..."""
    by_class = np.lexsort((hashes, labels))
    ordered = labels[by_class]
    firsts = np.searchsorted(ordered, ordered)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class] = np.arange(len(labels)) - firsts
    return np.sort(np.lexsort((hashes, ranks))[:most])


def _hashes(task: BufferedTask) -> npt.NDArray[np.uint64]:
    """Return a number for each instance, uniform over all of 64 bits."""
    names = [
        f"{partition.topic}/{partition.number}/{offset}".encode() if id_ is None else id_
        for id_, (partition, offset) in zip(task.ids, task.identities(), strict=True)
    ]
    digests = b"".join(hashlib.blake2b(name, digest_size=_HASH_BYTES).digest() for name in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _partition(closed: ClosedRange) -> Partition:
    return Partition(closed.topic, closed.partition)
