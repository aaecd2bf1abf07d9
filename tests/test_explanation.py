"""Which records made a version: its own task's and those of its ancestors, nobody else's."""

import pytest
from short_logs import ENTRIES

from teacherd.daemon.errors import UsageError
from teacherd.daemon.explanation import explain_version


def test_a_version_was_made_by_the_ranges_of_its_line() -> None:
    """Oldest first, each partition by itself; the held task is in none."""
    rows = explain_version(ENTRIES, 3)
    ranges = [
        (row["version"], row["task"], row["partition"], row["start"], row["end"]) for row in rows
    ]

    assert [
        (1, 1, 0, 0, 5),
        (2, 2, 0, 5, 7),
        (2, 2, 1, 0, 4),
        (3, 4, 0, 9, 9),
        (3, 4, 1, 4, 8),
    ] == ranges
    assert [5, 2, 4, 0, 4] == [row["records"] for row in rows]


def test_what_came_after_a_version_can_be_asked_for() -> None:
    """So that a long line does not hide it."""
    assert [3, 3] == [row["version"] for row in explain_version(ENTRIES, 3, start=2)]
    assert [] == explain_version(ENTRIES, 0)


def test_a_version_that_is_not_there_is_told() -> None:
    """With those that are."""
    with pytest.raises(UsageError, match="no version 4; versions go from 0 to 3"):
        explain_version(ENTRIES, 4)
