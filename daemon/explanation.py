"""Which records made a version: its tasks, and those of the versions that it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teacherd.daemon.entries import ClosedRange, Deferred, Entry, Plan
from teacherd.daemon.errors import UsageError
from teacherd.daemon.lineage import Lineage


@dataclass(frozen=True, slots=True)
class _Origin:
    parent: int | None
    plan: Plan | None
    attempt: int


def explain_version(
    entries: Sequence[Entry], version: int, *, start: int = 0
) -> list[dict[str, Any]]:
    """Return one row for each range that a version was learned from, oldest first.

    Args:
        entries: Of the lineage log.
        version: The version.
        start: Only what came after this one of its ancestors.

    Raises:
        UsageError: There is no such version.
    """
    origins = _origins(entries)
    if version not in origins:
        raise UsageError(
            f"--to: there is no version {version}; versions go from 0 to {max(origins, default=0)}"
        )
    rows: list[dict[str, Any]] = []
    number: int | None = version
    while number is not None and number > start:
        origin = origins[number]
        rows[:0] = _rows(number, origin)
        number = origin.parent
    return rows


def _origins(entries: Sequence[Entry]) -> dict[int, _Origin]:
    lineage = Lineage()
    origins: dict[int, _Origin] = {}
    for entry in entries:
        plan, attempt = lineage.unfinished, lineage.attempt
        lineage.apply(entry)
        for version in range(len(origins), lineage.next_version):
            record = lineage.versions[version]
            learned = plan if record.task is not None else None
            origins[version] = _Origin(record.parent, learned, attempt)
    return origins


def _rows(version: int, origin: _Origin) -> list[dict[str, Any]]:
    plan = origin.plan
    if plan is None:
        return [{"version": version, "parent": origin.parent}]
    common = {
        "version": version,
        "parent": origin.parent,
        "task": plan.task,
        "attempt": origin.attempt,
        "cause": plan.cause,
        "instances": plan.num_instances,
        "epochs": plan.epochs,
        "learning_rate": plan.learning_rate,
        "new_classes": list(plan.new_classes),
    }
    rows = [*map(_range, plan.ranges), *map(_taken, plan.taken)]
    return [{**common, **row} for row in rows]


def _range(closed: ClosedRange) -> dict[str, Any]:
    return {
        "topic": closed.topic,
        "partition": closed.partition,
        "start": closed.start,
        "end": closed.end,
        "records": closed.count,
        "rejected": list(closed.rejected),
        "deferred": list(closed.deferred),
        "digest": closed.digest,
    }


def _taken(deferred: Deferred) -> dict[str, Any]:
    """Return a row of single offsets, which lie in a range of the task that deferred them."""
    return {
        "topic": deferred.topic,
        "partition": deferred.partition,
        "start": deferred.offsets[0],
        "end": deferred.offsets[-1] + 1,
        "records": len(deferred.offsets),
        "rejected": [],
        "digest": deferred.digest,
        "deferred_by": deferred.task,
        "offsets": list(deferred.offsets),
    }
