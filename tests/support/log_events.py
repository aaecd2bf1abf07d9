"""The events of a JSON log which a process may be writing at this moment."""

import json
from typing import Any


def log_events(text: str, name: str | None = None) -> list[dict[str, Any]]:
    """Return the events on whole lines, all or those of one name.

    What stands behind the last line's end is half an event; what begins otherwise is no event.
    """
    whole, _, _ = text.rpartition("\n")
    events = [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
    return [event for event in events if name is None or event.get("event") == name]
