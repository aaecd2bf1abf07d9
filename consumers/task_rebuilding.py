"""Makes a planned task once more from its records: after a crash, for a retry, or in a replay."""

from collections.abc import Iterator, Sequence

from teacherd.consumers.buffered_task import BufferedTask, Cause, PlannedRange
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.filling_task import FillingTask, TaskLimits
from teacherd.consumers.record_batch import RecordBatch


class RangeMismatchError(Exception):
    """What a source gives back for a range is not what was planned; never retried."""

    def __init__(self, planned: PlannedRange, what: str, expected: object, found: object) -> None:
        topic, number = planned.partition
        super().__init__(
            f"{topic}/{number} offsets [{planned.start}, {planned.end}): "
            f"{what} is {found}, the plan says {expected}"
        )
        self.planned = planned
        self.expected = expected
        self.found = found


def rebuild_task(
    ranges: Sequence[PlannedRange],
    batches: Iterator[RecordBatch],
    decoder: Decoder,
    *,
    cause: Cause,
) -> BufferedTask:
    """Return the task that these ranges were planned as.

    Args:
        ranges: As planned.
        decoder: Set up as it was when they were planned.
        cause: As planned.
        batches: Those of the ranges, as `Source.read` yields them.

    Raises:
        RangeMismatchError: Records are missing or changed, or others are rejected than before.
    """
    starts = {planned.partition: planned.start for planned in ranges}
    ends = {planned.partition: planned.end for planned in ranges}
    num_records = sum(planned.count for planned in ranges)
    num_instances = num_records - sum(len(planned.rejected) for planned in ranges)
    # One more than planned, so that the last of them does not end it and a surplus is seen.
    task = FillingTask(TaskLimits(instances=num_records + 1), num_expected=num_instances)
    for batch in batches:
        task.take(batch, decoder.decode_batch(batch), starts)
        if task.num_records > num_records:
            break
    built = task.build(cause, ends)
    _compare(ranges, built.ranges)
    return built


def _compare(expected: Sequence[PlannedRange], found: Sequence[PlannedRange]) -> None:
    by_partition = {planned.partition: planned for planned in found}
    for planned in expected:
        rebuilt = by_partition.get(planned.partition)
        if rebuilt is None:
            raise RangeMismatchError(planned, "the number of records", planned.count, 0)
        for name, what in (
            ("count", "the number of records"),
            ("digest", "their digest"),
            ("rejected", "the list of rejected offsets"),
        ):
            before, now = getattr(planned, name), getattr(rebuilt, name)
            if before != now:
                raise RangeMismatchError(planned, what, before, now)
