"""Makes instances of records that were deferred, once a plan takes them in."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.filling_task import FillingTask, TaskLimits
from teacherd.consumers.range_digest import RangeDigest
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.deferred_offsets import DeferredIdentity, DeferredLostError, identities
from teacherd.daemon.entries import Deferred

ReadDeferred = Callable[[Sequence[DeferredIdentity]], Iterator[RecordBatch]]


def take_in(
    entries: Sequence[Deferred], read: ReadDeferred, decoder: Decoder
) -> tuple[BufferedTask, ...]:
    """Return what a plan takes in, a part for each task that deferred some of it.

    Args:
        entries: Of the plan, in order.
        read: Gives their records.
        decoder: Set up as it was when they were planned.

    Raises:
        DeferredLostError: Not all of them are instances, or they are others than were planned.
    """
    parts = []
    for task, its in groupby(entries, key=lambda each: each.task):
        group = list(its)
        wanted = list(identities(group))
        digests: dict[Partition, RangeDigest] = {}
        part = build_part(digesting(read(wanted), digests), decoder, num_records=len(wanted))
        found = {DeferredIdentity(task, *identity) for identity in part.identities()}
        if found != set(wanted):
            missing = min(set(wanted) - found)
            raise DeferredLostError(
                f"{missing.partition.topic}/{missing.partition.number} offset {missing.offset}, "
                f"deferred by task {task}, is gone or no instance any more"
            )
        _require_same(group, digests)
        parts.append(part)
    return tuple(parts)


def _require_same(entries: Iterable[Deferred], found: Mapping[Partition, RangeDigest]) -> None:
    """See that records are those that were planned, where the plan has their digest."""
    for each in entries:
        digest = found[Partition(each.topic, each.partition)].hexdigest()
        if each.digest not in (None, digest):
            raise DeferredLostError(
                f"{each.topic}/{each.partition}: the {len(each.offsets)} records that task "
                f"{each.task} deferred, offsets {each.offsets[0]} to {each.offsets[-1]}, are "
                f"others now: their digest is {digest}, the plan's {each.digest}"
            )


def digesting(
    batches: Iterable[RecordBatch], digests: dict[Partition, RangeDigest]
) -> Iterator[RecordBatch]:
    """Pass records on, and take them into the digest of their partition."""
    for batch in batches:
        digests.setdefault(batch.partition, RangeDigest()).update(batch)
        yield batch


def build_part(
    batches: Iterable[RecordBatch], decoder: Decoder, *, num_records: int
) -> BufferedTask:
    """Return the instances among some records, in the order of their identities."""
    # One more than there are, so that the last of them does not end it.
    filling = FillingTask(TaskLimits(instances=num_records + 1))
    for batch in batches:
        filling.take(batch, decoder.decode_batch(batch), {})
    return filling.build("count", {})


def ranges_of(wanted: Iterable[DeferredIdentity]) -> list[OffsetRange]:
    """Return where records lie in the stream, in as few ranges as hold no others."""
    ranges: list[OffsetRange] = []
    for partition, offset in sorted((each.partition, each.offset) for each in wanted):
        last = ranges[-1] if ranges else None
        if last is not None and (last.partition, last.end) == (partition, offset):
            ranges[-1] = OffsetRange(partition, last.start, offset + 1)
        else:
            ranges.append(OffsetRange(partition, offset, offset + 1))
    return ranges
