"""What waits in a task buffer, in numbers; and when several buffers together hold a task."""

from collections.abc import Sequence
from dataclasses import dataclass

from teacherd.consumers.buffered_task import Cause


@dataclass(frozen=True, kw_only=True, slots=True)
class BufferStanding:
    """One buffer at one moment."""

    instances: int
    """Instances of the oldest task; a cut would take them."""
    records: int
    """Records of the oldest task, rejected ones included; a cut would take them, too."""
    cause: Cause | None
    """Why the oldest task is complete, if it is."""
    age_seconds: float
    """For how long the first record has waited; 0 if none waits."""
    waiting_records: int
    """Records of all tasks that wait, rejected ones included."""
    waiting_instances: int
    waiting_bytes: int


def due_together(
    standings: Sequence[BufferStanding],
    *,
    instances: int,
    min_instances: int,
    max_age_seconds: float,
    max_records: int,
    buffer_bytes: int,
) -> Cause | None:
    """Return why the oldest tasks of these buffers should be cut now as one; None if not yet.

    Each buffer ends its own oldest task at `instances`, so together they give from so many to so
    many times their number.

    Args:
        standings: One for each buffer.
        instances: See `TaskBufferConfig`; so are the others.
        min_instances: Of a task cut by age.
        max_age_seconds: Of the first record.
        max_records: That may wait in all of them.
        buffer_bytes: That those may take.
    """
    complete = [each.cause for each in standings if each.cause is not None]
    if complete:
        return complete[0]
    waiting = sum(each.instances for each in standings)
    if waiting >= instances:
        return "count"
    records = sum(each.records for each in standings)
    num_bytes = sum(each.waiting_bytes for each in standings)
    if records >= max_records or (records and num_bytes >= buffer_bytes):
        # No buffer takes any more until something is cut.
        return "capacity"
    is_old = max(each.age_seconds for each in standings) >= max_age_seconds
    return "age" if is_old and waiting >= min_instances else None
