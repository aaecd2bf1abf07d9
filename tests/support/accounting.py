"""Where every offset went, read from the lineage log and the dead letters alone.

The daemon's own fold is not asked: this is what checks it. A fate is `trained`, another outcome of
the plan (`held`, `quarantined`, `lost`, `unfinished`), `skipped`, or the name of the list in the
plan's range that has the offset, such as `rejected`. One that is `deferred` has, once a later plan
takes it in or drops it, the fate that it has there.
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
    found, places = _follow(list(entries))
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
            if not its or (its[0] in {"rejected", "dropped"} and identity not in kept):
                lost.append(identity)
            if len(its) > 1 or (identity in kept and "trained" in its):
                twice.append(identity)
    return Accounts(fates, lost, twice, places)


def _follow(entries: list[Entry]) -> tuple[dict[Identity, list[str]], dict[Partition, int]]:
    """Return the fates of every offset, and the places."""
    found: dict[Identity, list[str]] = {}
    places: dict[Partition, int] = {}
    deferred: dict[tuple[int, Identity], list[str]] = {}
    results = {each.task: each.result for each in entries if isinstance(each, Outcome)}
    for entry in entries:
        for partition, offsets, fate in _stretches(entry, results):
            places[partition] = offsets.stop
            if offsets.stop < offsets.start:
                # The partition was truncated or made anew: what comes there now is another record.
                for gone in range(offsets.stop, offsets.start):
                    found.pop((partition, gone), None)
            for offset in offsets:
                its = found.setdefault((partition, offset), [])
                its.append(fate(offset))
                if isinstance(entry, Plan) and its[-1] == "deferred":
                    deferred[entry.task, (partition, offset)] = its
        for name, later in _later_fates(entry, results):
            its = deferred.get(name, [])
            if "deferred" in its:
                its.remove("deferred")
            its.append(later)
    return found, places


def _stretches(
    entry: Entry, results: Mapping[int, str]
) -> Iterator[tuple[Partition, range, "_Fate"]]:
    if isinstance(entry, Plan):
        result = results.get(entry.task, "unfinished")
        for closed in entry.ranges:
            partition = Partition(closed.topic, closed.partition)
            yield partition, range(closed.start, closed.end), _Fate(closed, result)
    elif isinstance(entry, Skip):
        partition = Partition(entry.topic, entry.partition)
        yield partition, range(entry.start, entry.end), _Fate(None, "skipped")


def _later_fates(
    entry: Entry, results: Mapping[int, str]
) -> Iterator[tuple[tuple[int, Identity], str]]:
    """Yield what becomes of records that an earlier plan has deferred, or this one just now."""
    if not isinstance(entry, Plan):
        return
    result = _trained(results.get(entry.task, "unfinished"))
    for taken in entry.taken:
        for offset in taken.offsets:
            fate = "held_out" if offset in taken.held_out else result
            yield (taken.task, (Partition(taken.topic, taken.partition), offset)), fate
    for dropped in entry.dropped:
        for offset in dropped.offsets:
            name = (dropped.task, (Partition(dropped.topic, dropped.partition), offset))
            yield name, "dropped"


class _Fate:
    """What became of the offsets of one range."""

    def __init__(self, closed: ClosedRange | None, result: str) -> None:
        self._default = _trained(result)
        self._listed = {
            offset: each.name
            for each in (fields(closed) if closed is not None else ())
            if isinstance(offsets := getattr(closed, each.name), tuple)
            for offset in offsets
        }

    def __call__(self, offset: int) -> str:
        return self._listed.get(offset, self._default)


def _trained(result: str) -> str:
    return "trained" if result == "accepted" else result
