"""Which instances of a task are held out: by a hash, never by chance, and for all time the same.

An instance that its producer gave an id is found by it, so that copies of one picture never stand
on both sides; any other by its identity (topic, partition, offset).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.instance import Array
from teacherd.consumers.record import Partition
from teacherd.daemon.entries import ClosedRange, Deferred
from teacherd.daemon.standing import HeldOut

_HASH_BYTES = 8
_ALL = 2.0 ** (8 * _HASH_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Instances of one task that are never trained on."""

    task: int
    """0 for the base holdout."""
    inputs: Array
    """[N, ...]"""
    labels: npt.NDArray[np.int64]
    """[N]"""
    classes: tuple[str, ...] = ()
    """What the labels are places in; empty where that is version 0's, with which all begin."""

    @property
    def num_bytes(self) -> int:
        """Return how much memory it takes."""
        return self.inputs.nbytes + self.labels.nbytes

    def labels_for(self, classes: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the labels as places in the classes of some head; -1 for what it does not know."""
        return places_in(classes, self.labels, self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """A part of a task, in the order of identities; what it took in of others comes first."""

    inputs: Array
    labels: npt.NDArray[np.int64]
    """Places in `classes`."""
    event_times_ms: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    classes: tuple[str, ...]
    """Version 0's, and behind them all others that the part has, in no order that matters."""

    def labels_for(self, classes: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the labels as places in the classes of some head; -1 for what it does not know."""
        return places_in(classes, self.labels, self.classes)

    def of_classes(self, classes: Sequence[str]) -> "Instances":
        """Return those of some classes, their labels as places in these."""
        labels = self.labels_for(classes)
        known = labels >= 0
        if known.all():
            return replace(self, labels=labels, classes=tuple(classes))
        return Instances(
            self.inputs[known],
            labels[known],
            self.event_times_ms[known],
            self.hashes[known],
            tuple(classes),
        )


def places_in(
    classes: Sequence[str], labels: npt.NDArray[np.int64], names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return labels, which are places in `names`, as places in other classes, -1 for none.

    Args:
        classes: Where to look for the names.
        labels: [N]
        names: Empty where the labels are places in the classes already.
    """
    if not names or tuple(names) == tuple(classes[: len(names)]):
        return labels
    places = {name: place for place, name in enumerate(classes)}
    found = np.array([places.get(name, -1) for name in names], dtype=np.int64)
    return found[labels]


def at_names(labels: npt.NDArray[np.int64], num_first: int) -> npt.NDArray[np.int64]:
    """Return a task's labels as places in version 0's classes and, behind them, the task's names.

    Args:
        labels: [N], below 0 for names.
        num_first: How many classes version 0 has.
    """
    return np.where(labels < 0, num_first - 1 - labels, labels)


def hold_out(task: BufferedTask, ranges: Sequence[ClosedRange], share: float) -> list[ClosedRange]:
    """Return a task's ranges with the offsets that are held out; those deferred never are."""
    if share == 0:
        return list(ranges)
    is_held_out = _hashes(task) < share * _ALL
    places = {planned.partition: place for place, planned in enumerate(task.ranges)}
    return [
        replace(
            closed,
            held_out=_without(
                task.offsets[
                    is_held_out & (task.partitions == places[_partition(closed)])
                ].tolist(),
                closed.deferred,
            ),
        )
        for closed in ranges
    ]


def is_in_holdout(id_: bytes | None, partition: Partition, offset: int, *, share: float) -> bool:
    """Tell whether an instance is never trained on."""
    return int.from_bytes(_digest(_name(id_, partition, offset))) < share * _ALL


def split(
    task: BufferedTask, where: HeldOut, classes: Sequence[str]
) -> tuple[Instances, Instances]:
    """Return what is to be learned and what is held out, as the plan says.

    Args:
        task: What was planned, with what it takes in.
        where: The plan's ranges, and what it has of records deferred before.
        classes: Version 0's.
    """
    own = {_partition(each): each.held_out for each in where.ranges}
    deferred = {_partition(each): each.deferred for each in where.ranges}
    parts = [_split_part(task, own, deferred, classes)]
    groups = groupby(where.taken, key=lambda each: each.task)
    for part, (_, group) in zip(task.taken, groups, strict=True):
        held_out = {_partition(each): each.held_out for each in group}
        parts.append(_split_part(part, held_out, {}, classes))
    # Deferred ones are older: they come first, as the order of identities would have it.
    ordered = [*parts[1:], parts[0]]
    return _joined([each for each, _ in ordered]), _joined([each for _, each in ordered])


def _split_part(
    task: BufferedTask,
    held_out: Mapping[Partition, Sequence[int]],
    deferred: Mapping[Partition, Sequence[int]],
    classes: Sequence[str],
) -> tuple[Instances, Instances]:
    is_held_out, is_deferred = _is_among(task, held_out), _is_among(task, deferred)
    is_learned = ~(is_held_out | is_deferred)
    hashes = _hashes(task) if is_held_out.any() else np.zeros(len(task.labels), dtype=np.uint64)
    labels, names = task.labels, tuple(classes)
    if task.names:
        labels = at_names(labels, len(names))
        names += task.names
    learned, kept = (
        Instances(
            task.inputs if mask.all() else task.inputs[mask],
            labels[mask],
            task.event_times_ms[mask],
            hashes[mask],
            names,
        )
        for mask in (is_learned, is_held_out)
    )
    return learned, kept


def _joined(parts: Sequence[Instances]) -> Instances:
    """Return parts of one task, at least one, as one."""
    filled = [each for each in parts if len(each.labels)]
    if len(filled) <= 1:
        return filled[0] if filled else parts[0]
    names = tuple(dict.fromkeys(name for each in filled for name in each.classes))
    return Instances(
        np.concatenate([each.inputs for each in filled]),
        np.concatenate([each.labels_for(names) for each in filled]),
        np.concatenate([each.event_times_ms for each in filled]),
        np.concatenate([each.hashes for each in filled]),
        names,
    )


def build_holdout(task: int, instances: Instances, *, most: int, most_bytes: int) -> Holdout:
    """Keep so many of the instances that are held out, as many of each class as there are.

    Which ones follows from their hashes, so that it is the same whenever they are gathered.
    """
    if len(instances.labels):
        most = min(most, most_bytes // max(1, instances.inputs[0].nbytes))
    names = instances.classes
    if len(instances.labels) > most:
        chosen = _balanced(instances.labels, instances.hashes, most)
        return Holdout(task, instances.inputs[chosen], instances.labels[chosen], names)
    return Holdout(task, instances.inputs, instances.labels, names)


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
    digests = b"".join(
        _digest(_name(id_, partition, offset))
        for id_, (partition, offset) in zip(task.ids, task.identities(), strict=True)
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _name(id_: bytes | None, partition: Partition, offset: int) -> bytes:
    return f"{partition.topic}/{partition.number}/{offset}".encode() if id_ is None else id_


def _digest(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=_HASH_BYTES).digest()


def _partition(closed: ClosedRange | Deferred) -> Partition:
    return Partition(closed.topic, closed.partition)


def _is_among(
    task: BufferedTask, listed: Mapping[Partition, Sequence[int]]
) -> npt.NDArray[np.bool_]:
    """Return which instances are among the listed offsets, [N]."""
    found = np.zeros(len(task.labels), dtype=np.bool_)
    for place, planned in enumerate(task.ranges):
        offsets = listed.get(planned.partition, ())
        if offsets:
            found |= (task.partitions == place) & np.isin(task.offsets, offsets)
    return found


def _without(offsets: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
    gone = set(others)
    return tuple(offset for offset in offsets if offset not in gone)
