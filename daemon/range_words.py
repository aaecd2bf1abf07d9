"""A range of records, as the task buffer words it and as the lineage log does."""

from teacherd.consumers.buffered_task import PlannedRange
from teacherd.consumers.record import Partition
from teacherd.daemon.entries import ClosedRange


def planned_range(closed: ClosedRange) -> PlannedRange:
    """Word the log's range as the task buffer does."""
    return PlannedRange(
        partition=Partition(closed.topic, closed.partition),
        start=closed.start,
        end=closed.end,
        count=closed.count,
        digest=closed.digest,
        rejected=closed.rejected,
        last_digest=closed.last_digest,
        topic_id=closed.topic_id,
    )


def closed_range(planned: PlannedRange) -> ClosedRange:
    """Word a buffered task's range as the log does."""
    return ClosedRange(
        topic=planned.partition.topic,
        partition=planned.partition.number,
        start=planned.start,
        end=planned.end,
        count=planned.count,
        digest=planned.digest,
        rejected=planned.rejected,
        last_digest=planned.last_digest,
        topic_id=planned.topic_id,
    )
