"""What the plots show: tasks and happenings folded from the lineage log, and samples over time.

All of it is bounded, whatever the age of the lineage. Tasks and happenings survive a restart, since
the log has them; samples begin anew with the process.
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from teacherd.daemon.entries import Outcome, Plan, Publish, Retry
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.sample_series import SampleSeries

_NUM_TASKS = 300
_NUM_HAPPENINGS = 100
_NO_HAPPENINGS = ("open", "config", "runtime", "plan", "outcome", "publish")
_SETS = {
    "teacher": "accuracy.",
    "student": "student_accuracy.",
    "forgetting": "forgetting.",
    "holdouts": "holdout.",
    "drift": "drift.",
}
"""What a row says by name of evaluation set or holdout, and how such figures begin."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a row says of its task's plan, as it was last tried."""

    cause: str
    instances: int
    head: int
    new_classes: tuple[str, ...]


class History:
    """Filled by the learning thread and the service's, read by the endpoints'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: deque[dict[str, Any]] = deque(maxlen=_NUM_TASKS)
        self._happenings: deque[dict[str, Any]] = deque(maxlen=_NUM_HAPPENINGS)
        self._samples = SampleSeries()
        self._planned: dict[int, _Planned] = {}
        """By task, of those that are learned, or were set aside and may be tried again."""

    def apply(self, logged: LoggedEntry) -> None:
        """Take one more entry of the log into account."""
        with self._lock:
            entry = logged.entry
            if isinstance(entry, Plan):
                self._note(entry)
            elif isinstance(entry, Retry) and entry.task in self._planned:
                self._planned[entry.task] = replace(
                    self._planned[entry.task], head=entry.head, new_classes=entry.new_classes
                )
            elif isinstance(entry, Outcome):
                self._tasks.append(self._row(entry, logged.written_at))
            elif isinstance(entry, Publish):
                self._mark_published(entry.version, logged.written_at)
            if entry.kind not in _NO_HAPPENINGS:
                self._happenings.append(_happening(logged))

    def sample(self, at_ms: int, values: Mapping[str, float | None]) -> None:
        """Note how things stand at a moment."""
        with self._lock:
            self._samples.append(at_ms, values)

    def snapshot(self) -> dict[str, Any]:
        """Return a copy that no thread changes any more: oldest first, JSON values only."""
        with self._lock:
            return {
                "tasks": [dict(row) for row in self._tasks],
                "happenings": list(self._happenings),
                "samples": self._samples.to_json(),
            }

    def _note(self, plan: Plan) -> None:
        self._planned[plan.task] = _Planned(
            plan.cause, plan.num_instances, plan.head, plan.new_classes
        )
        while len(self._planned) > _NUM_TASKS:
            del self._planned[next(iter(self._planned))]

    def _row(self, outcome: Outcome, at: str) -> dict[str, Any]:
        plan = self._planned.get(outcome.task)
        if outcome.result in {"accepted", "empty"}:
            self._planned.pop(outcome.task, None)  # nothing tries it again
        row: dict[str, Any] = {
            "task": outcome.task,
            "at": at,
            "cause": plan.cause if plan else None,
            "instances": plan.instances if plan else None,
            "head": plan.head if plan else None,
            "new_classes": list(plan.new_classes) if plan else [],
            "result": outcome.result,
            "reasons": list(outcome.reasons),
            "gate": outcome.gate,
            "version": outcome.version,
            "published_at": None,
            "outer_ratio": outcome.figures.get("outer_ratio"),
        }
        return row | {name: _by_set(outcome.figures, start) for name, start in _SETS.items()}

    def _mark_published(self, version: int, at: str) -> None:
        for row in reversed(self._tasks):
            if row["version"] == version:
                row["published_at"] = at
                return


def sampled_values(status: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what is sampled of a status: ages, and what waits."""
    lag = status.get("intake", {}).get("lag", {})
    return {
        "lag_seconds": status["ages"]["lag_seconds"],
        "freshness_seconds": status["ages"]["freshness_seconds"],
        "lag_records": float(sum(lag.values())),
        "buffer_records": status.get("buffer", {}).get("records"),
    }


def _by_set(figures: Mapping[str, float], start: str) -> dict[str, float]:
    return {
        name.removeprefix(start): value for name, value in figures.items() if name.startswith(start)
    }


def _happening(logged: LoggedEntry) -> dict[str, Any]:
    """Return kind, time and the entry's small fields, which differ by kind."""
    fields = {
        name: getattr(logged.entry, name)
        for name in logged.entry.__dataclass_fields__
        if isinstance(getattr(logged.entry, name), str | int | float)
    }
    return {"at": logged.written_at, **fields}
