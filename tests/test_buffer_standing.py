"""Tests of when several buffers together hold a task."""

import pytest

from teacherd.consumers.buffer_standing import BufferStanding, due_together
from teacherd.consumers.buffered_task import Cause


def standing(
    instances: int = 0,
    *,
    cause: Cause | None = None,
    age: float = 0.0,
    rejected: int = 0,
    num_bytes: int = 0,
) -> BufferStanding:
    """Return that of a buffer with one task."""
    return BufferStanding(
        instances=instances,
        records=instances + rejected,
        cause=cause,
        age_seconds=age,
        waiting_records=instances + rejected,
        waiting_instances=instances,
        waiting_bytes=num_bytes,
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
        ([standing(rejected=10), standing(rejected=9)], None),
        ([standing(rejected=10), standing(rejected=10)], "capacity"),
        ([standing(1, num_bytes=60), standing(1, num_bytes=39)], None),
        ([standing(1, num_bytes=60), standing(1, num_bytes=40)], "capacity"),
        ([standing(num_bytes=100), standing()], None),
    ],
)
def test_a_task_is_due_by_what_all_buffers_hold(
    standings: list[BufferStanding], expected: Cause | None
) -> None:
    """By count over all, by the oldest record of all, or where no more may wait.

    What waits behind a gap that is to be noted first cannot be cut, however much it is.
    """
    found = due_together(
        standings,
        instances=10,
        min_instances=3,
        max_age_seconds=60,
        max_records=20,
        buffer_bytes=100,
    )

    assert expected == found
