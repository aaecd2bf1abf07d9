"""Where every offset went, read from the lineage log and the dead letters alone.

The daemon's own fold is not asked: this is what checks it. A fate is `trained`, another outcome of
the plan (`held`, `quarantined`, `lost`, `unfinished`), `skipped`, or the name of the list in the
plan's range that has the offset, such as `rejected`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import ClosedRange, Entry, Outcome, Plan, Skip

Identity = tuple[Partition, int]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What an accounting came to."""

    fates: Counter[str]
    """Number of records by fate."""
    lost: list[Identity]
    """Records below their partition's place that have no fate, or a dead letter too few."""
    twice: list[Identity]
    """Records with more than one fate."""
    places: dict[Partition, int]


def account(
    entries: Iterable[Entry],
    *,
    records: Mapping[Partition, Iterable[int]],
    letters: Iterable[Identity],
    begins: Mapping[Partition, int] | None = None,
) -> Accounts:
    """Account for every record below the places.

    Args:
        entries: The whole lineage log.
        records: Offsets of the records that there were, deleted ones included; others are gaps.
        letters: Origins of the dead letters, requeued ones included; copies do no harm.
        begins: Where the lineage began to read; by default everything is its business.
    """
    entries = list(entries)
    found: dict[Identity, list[str]] = {}
    places: dict[Partition, int] = {}
    for partition, offsets, fate in _stretches(entries):
        places[partition] = offsets.stop
        if offsets.stop < offsets.start:
            # The partition was truncated or made anew: what comes there now is something else.
            for gone in range(offsets.stop, offsets.start):
                found.pop((partition, gone), None)
        for offset in offsets:
            found.setdefault((partition, offset), []).append(fate(offset))
    kept = set(letters)
    fates: Counter[str] = Counter()
    lost, twice = [], []
    for partition, offsets in records.items():
        begin = (begins or {}).get(partition, 0)
        for offset in sorted(offsets):
            identity = (partition, offset)
            if not begin <= offset < places.get(partition, 0):
                continue
            its = found.get(identity, [])
            fates.update(its)
            if not its or (its == ["rejected"] and identity not in kept):
                lost.append(identity)
            if len(its) > 1 or (identity in kept and "trained" in its):
                twice.append(identity)
    return Accounts(fates, lost, twice, places)


def _stretches(entries: list[Entry]) -> Iterator[tuple[Partition, range, "_Fate"]]:
    results = {each.task: each.result for each in entries if isinstance(each, Outcome)}
    for entry in entries:
        if isinstance(entry, Plan):
            result = results.get(entry.task, "unfinished")
            for closed in entry.ranges:
                partition = Partition(closed.topic, closed.partition)
                yield partition, range(closed.start, closed.end), _Fate(closed, result)
        elif isinstance(entry, Skip):
            partition = Partition(entry.topic, entry.partition)
            yield partition, range(entry.start, entry.end), _Fate(None, "skipped")


class _Fate:
    """What became of the offsets of one range."""

    def __init__(self, closed: ClosedRange | None, result: str) -> None:
        self._default = "trained" if result == "accepted" else result
        self._listed = {
            offset: each.name
            for each in (fields(closed) if closed is not None else ())
            if isinstance(offsets := getattr(closed, each.name), tuple)
            for offset in offsets
        }

    def __call__(self, offset: int) -> str:
        return self._listed.get(offset, self._default)
