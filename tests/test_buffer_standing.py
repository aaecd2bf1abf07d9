"""Tests of when several buffers together hold a task."""

import pytest

from teacherd.consumers.buffer_standing import BufferStanding, due_together
from teacherd.consumers.buffered_task import Cause


def standing(instances: int = 0, *, cause: Cause | None = None, age: float = 0.0) -> BufferStanding:
    """Return that of a buffer with one task."""
    return BufferStanding(
        instances=instances,
        cause=cause,
        age_seconds=age,
        waiting_records=instances,
        waiting_instances=instances,
        waiting_bytes=0,
    )


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ([standing(), standing()], None),
        ([standing(4), standing(5)], None),
        ([standing(4), standing(6)], "count"),
        ([standing(), standing(10, cause="count")], "count"),
        ([standing(3), standing(1, cause="gap")], "gap"),
        ([standing(9, age=59), standing()], None),
        ([standing(1, age=1), standing(2, age=61)], "age"),
        ([standing(1, age=61), standing(1)], None),
    ],
)
def test_a_task_is_due_by_what_all_buffers_hold(
    standings: list[BufferStanding], expected: Cause | None
) -> None:
    """By count over all, by the oldest record of all, or where one buffer can take no more."""
    found = due_together(standings, instances=10, min_instances=3, max_age_seconds=60)

    assert expected == found
