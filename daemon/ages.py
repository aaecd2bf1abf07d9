"""Ages that follow from the status board and the clock: of records that wait, of what is served."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Sections = Mapping[str, Mapping[str, Any]]
"""A status board's snapshot."""

_WAITING = ("intake", "buffer", "task")
"""Sections whose oldest record is not decided yet: unread, buffered, being learned."""


def lag_seconds(sections: Sections, now: float) -> float:
    """Return the age of the oldest record that is not decided yet; 0 when all are."""
    oldest = [sections.get(name, {}).get("oldest_timestamp_ms") for name in _WAITING]
    known = [timestamp for timestamp in oldest if timestamp is not None]
    return max(0.0, now - min(known) / 1000) if known else 0.0


def ages(sections: Sections, now: float) -> dict[str, float | None]:
    """Return every age in seconds; None where there is nothing that could be old."""
    teacher, checkpoint = sections.get("teacher", {}), sections.get("checkpoint", {})
    newest = teacher.get("newest_event_ms")
    return {
        "lag_seconds": lag_seconds(sections, now),
        "freshness_seconds": None if newest is None else max(0.0, now - newest / 1000),
        "teacher_age_seconds": seconds_since(teacher.get("created_at"), now),
        "checkpoint_age_seconds": seconds_since(checkpoint.get("at"), now),
    }


def seconds_since(timestamp: str | None, now: float) -> float | None:
    """Return the time since an ISO 8601 moment."""
    if timestamp is None:
        return None
    return max(0.0, now - datetime.fromisoformat(timestamp).timestamp())
