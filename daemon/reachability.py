"""From where each version can still be replayed: what is kept, and which records are there."""

from collections.abc import Callable, Mapping, Sequence

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import Entry, Outcome, Plan, Rollback, Skip
from teacherd.daemon.lineage import Lineage

_NOWHERE = float("inf")
"""Where a partition that is gone begins."""


def replay_starts(
    entries: Sequence[Entry],
    *,
    earliest: Mapping[Partition, int],
    is_kept: Callable[[int], bool],
) -> dict[int, int | None]:
    """Return for each version the oldest one that it can be replayed from, None where none can.

    From a kept version on every accepted task needs its records; what became no version left no
    trace in the weights.

    Args:
        entries: Of the lineage log.
        earliest: First offset of each partition that can still be read.
        is_kept: Tells whether the weights of a version are on disk.
    """
    lineage = Lineage()
    start: int | None = None
    starts: dict[int, int | None] = {}
    limits = _limits(entries)
    for entry, limit in zip(entries, limits, strict=True):
        plan = lineage.unfinished
        first_new = lineage.next_version
        back = _goes_back_to(entry, lineage)
        if start is not None and back is not None and back < start and not is_kept(back):
            start = None
        lineage.apply(entry)
        for version in range(first_new, lineage.next_version):
            if plan is not None and not _is_readable(plan, earliest, limit):
                start = None
            starts[version] = start
            if start is None and is_kept(version):
                start = version
    return starts


def _goes_back_to(entry: Entry, lineage: Lineage) -> int | None:
    """Return the version whose weights an entry takes up again, None if it takes up none."""
    if isinstance(entry, Rollback):
        return entry.to
    if isinstance(entry, Outcome) and entry.head_returns:
        return lineage.current
    return None


def _limits(entries: Sequence[Entry]) -> list[Mapping[Partition, int]]:
    """Return for each entry from where on each partition holds other records by now.

    A skip that runs backwards says that a log was cut back or made anew.
    """
    limit: Mapping[Partition, int] = {}
    limits = []
    for entry in reversed(entries):
        if isinstance(entry, Skip) and entry.end < entry.start:
            partition = Partition(entry.topic, entry.partition)
            limit = {**limit, partition: min(entry.end, limit.get(partition, entry.end))}
        limits.append(limit)
    return limits[::-1]


def _is_readable(
    plan: Plan, earliest: Mapping[Partition, int], limit: Mapping[Partition, int]
) -> bool:
    for closed in plan.ranges:
        partition = Partition(closed.topic, closed.partition)
        if closed.count and (
            earliest.get(partition, _NOWHERE) > closed.start
            or limit.get(partition, _NOWHERE) < closed.end
        ):
            return False
    for taken in plan.taken:
        partition = Partition(taken.topic, taken.partition)
        if (
            earliest.get(partition, _NOWHERE) > taken.offsets[0]
            or limit.get(partition, _NOWHERE) <= taken.offsets[-1]
        ):
            return False
    return True
