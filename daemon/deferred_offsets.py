"""Which records are deferred now: a fold over the plans in the lineage log."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import Deferred, Plan


class DeferredIdentity(NamedTuple):
    """Names one deferred record for ever.

    Its task is part of the name: where a topic was made anew, offsets come again.
    """

    task: int
    """Whose plan deferred it."""
    partition: Partition
    offset: int


class DeferredLostError(Exception):
    """Records that a plan takes in are gone, or are no instances any more."""


class DeferredOffsets:
    """The records that plans have deferred, and none has taken in or dropped since."""

    def __init__(self) -> None:
        self._of_task: dict[int, dict[Partition, set[int]]] = {}

    def __len__(self) -> int:
        return sum(len(offsets) for each in self._of_task.values() for offsets in each.values())

    def __contains__(self, identity: DeferredIdentity) -> bool:
        return identity.offset in self._of_task.get(identity.task, {}).get(identity.partition, ())

    def __iter__(self) -> Iterator[DeferredIdentity]:
        """Yield them in order: by task, partition, offset."""
        for task, partitions in sorted(self._of_task.items()):
            for partition, offsets in sorted(partitions.items()):
                for offset in sorted(offsets):
                    yield DeferredIdentity(task, partition, offset)

    def contradiction(self, plan: Plan) -> str | None:
        """Say in words what a plan takes in or drops though it is not deferred; None if nothing."""
        gone: set[DeferredIdentity] = set()
        own = set(_own(plan))
        for identity in identities((*plan.taken, *plan.dropped)):
            known = identity in self or identity in own
            if not known or identity in gone:
                return f"plan {plan.task} has {identity} twice, or it is not deferred"
            gone.add(identity)
        return None

    def apply(self, plan: Plan) -> None:
        """Take in a plan: what it defers comes, what it takes in or drops goes."""
        for identity in _own(plan):
            partitions = self._of_task.setdefault(identity.task, {})
            partitions.setdefault(identity.partition, set()).add(identity.offset)
        for identity in identities((*plan.taken, *plan.dropped)):
            partitions = self._of_task[identity.task]
            partitions[identity.partition].discard(identity.offset)
            if not partitions[identity.partition]:
                del partitions[identity.partition]
            if not partitions:
                del self._of_task[identity.task]


def identities(entries: Iterable[Deferred]) -> Iterator[DeferredIdentity]:
    """Yield the records that an entry of a plan names."""
    for each in entries:
        partition = Partition(each.topic, each.partition)
        for offset in each.offsets:
            yield DeferredIdentity(each.task, partition, offset)


def grouped(
    names: Iterable[DeferredIdentity],
    held_out: frozenset[DeferredIdentity] = frozenset(),
    digests: Mapping[tuple[int, Partition], str] | None = None,
) -> tuple[Deferred, ...]:
    """Word records as a plan does: in order, those of one task and partition together.

    Args:
        names: Which records.
        held_out: Those of them that are never trained on.
        digests: Of the records of a task and partition.
    """
    groups: dict[tuple[int, Partition], list[DeferredIdentity]] = {}
    for identity in sorted(names):
        groups.setdefault((identity.task, identity.partition), []).append(identity)
    return tuple(
        Deferred(
            task=task,
            topic=partition.topic,
            partition=partition.number,
            offsets=tuple(each.offset for each in group),
            held_out=tuple(each.offset for each in group if each in held_out),
            digest=(digests or {}).get((task, partition)),
        )
        for (task, partition), group in groups.items()
    )


def _own(plan: Plan) -> Iterator[DeferredIdentity]:
    for closed in plan.ranges:
        partition = Partition(closed.topic, closed.partition)
        for offset in closed.deferred:
            yield DeferredIdentity(plan.task, partition, offset)
