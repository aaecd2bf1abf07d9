"""docs/events.md as tests read it: every event with its levels and fields."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z, ]+) \| ([^|]*)\|", re.MULTILINE)
OPEN_END = "..."
ALWAYS = {"event", "level", "timestamp"}


@dataclass(frozen=True, slots=True)
class Event:
    """An event by name, with the levels and fields that it may have."""

    name: str
    levels: frozenset[str]
    fields: frozenset[str]


def documented() -> dict[str, Event]:
    """Return every event that docs/events.md describes."""
    return {
        name: Event(
            name,
            frozenset(levels.split(", ")),
            frozenset(re.findall(r"`(\w+)`", fields))
            | (frozenset({OPEN_END}) if OPEN_END in fields else frozenset()),
        )
        for name, levels, fields in ROW.findall(DOCUMENT)
    }


def require_sequence(expected: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    """Require these events and no other of the document's, with these values, in this order.

    Each must have the level and all the fields that its row names.
    """
    known = documented()
    told = [event for event in events if event.get("event") in known]

    assert [each["event"] for each in expected] == [each["event"] for each in told]
    for fields, event in zip(expected, told, strict=True):
        assert fields == {name: event[name] for name in fields}
        _require_documented_fields(known[event["event"]], event)


def _require_documented_fields(row: Event, event: dict[str, Any]) -> None:
    fields = set(event) - ALWAYS
    known = row.fields - {OPEN_END}

    assert known <= fields
    assert fields == known or OPEN_END in row.fields
    assert event["level"] in row.levels
