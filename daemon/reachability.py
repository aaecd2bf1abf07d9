"""From where each version can still be replayed: what is kept, and which records are there."""

from collections.abc import Callable, Mapping, Sequence

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import Entry, Plan
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
    for entry in entries:
        plan = lineage.unfinished
        first_new = lineage.next_version
        lineage.apply(entry)
        for version in range(first_new, lineage.next_version):
            if plan is not None and not _is_readable(plan, earliest):
                start = None
            starts[version] = start
            if start is None and is_kept(version):
                start = version
    return starts


def _is_readable(plan: Plan, earliest: Mapping[Partition, int]) -> bool:
    return all(
        closed.count == 0
        or earliest.get(Partition(closed.topic, closed.partition), _NOWHERE) <= closed.start
        for closed in plan.ranges
    )
