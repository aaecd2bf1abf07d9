"""How values are worded for people: short numbers, times, lists, and nothing a terminal obeys."""

from collections.abc import Mapping
from datetime import UTC, datetime


def word(value: object, *, name: str = "") -> str:
    """Return a value as a person reads it; what is missing is blank, in a section left out.

    Args:
        value: Plain values, as JSON has them, and tuples.
        name: What it is called; `..._ms` is a moment.
    """
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {word(each, name=str(key))}".strip()
            for key, each in value.items()
            if each is not None
        )
    if isinstance(value, list | tuple):
        has_sections = any(isinstance(each, Mapping) for each in value)
        return ("; " if has_sections else ", ").join(word(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, name)
    return printable("" if value is None else str(value))


def printable(text: str) -> str:
    """Return a text with its control characters spelled out.

    Much that is shown came in with records, and records come from strangers: no escape sequence of
    theirs may reach the terminal.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _number(value: float, name: str) -> str:
    if name.endswith("_ms"):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds")
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def span(seconds: float) -> str:
    """Return a length of time in its natural unit."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def share(ratio: float) -> str:
    """Return a share of 1 in percent."""
    return f"{ratio:.1%}"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points."""
    # Rounded first: what is shown as 0.0 has no sign.
    return f"{round(100 * difference, 1) + 0.0:.1f} points"
