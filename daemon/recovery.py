"""What a start makes up for: the records of an unfinished plan, the partitions' places."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Literal

import structlog

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.decoding import Decoder, DecodingConfig
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import MADE_ANEW, RecordsLostError, Source
from teacherd.consumers.task_buffer import LostRange
from teacherd.consumers.task_rebuilding import RangeMismatchError, rebuild_task
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.deferred_offsets import DeferredIdentity, DeferredLostError
from teacherd.daemon.deferred_store import DeferredStore, named_records
from teacherd.daemon.entries import ClosedRange, Deferred, Plan, Skip
from teacherd.daemon.errors import ConfigurationError, Problem, UnavailableError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.quarantine import Quarantine
from teacherd.daemon.standing import HeldOut
from teacherd.daemon.state_directory import StateDirectory
from teacherd.daemon.taking_in import ReadDeferred, ranges_of, take_in
from teacherd.models.artifact import Manifest

OpenDecoder = Callable[[bool], Decoder]
"""Opens a decoder, with open labels or not; whoever asks closes it."""


class RecordsChangedError(UnavailableError):
    """The records of a plan are gone, or are others than those that were planned."""


def settings_of_next_task(journal: Journal, configured: DecidingConfig) -> DecidingConfig:
    """Return what the next task is learned with, and see that the log holds it.

    A plan that is not finished is finished with the settings that it was made with, also if the
    configuration has changed since.

    Raises:
        ConfigurationError: Those settings mean nothing to this version of teacherd.
    """
    in_force = journal.lineage.settings
    if journal.lineage.unfinished is not None and in_force is not None:
        return DecidingConfig.from_entry(in_force.settings)
    journal.record_settings(configured.to_entry())
    return configured


def build_decoder(
    config: DecodingConfig,
    input_shape: tuple[int, ...],
    classes: Sequence[str],
    has_open_labels: bool = False,  # noqa: FBT001, FBT002 (what varies once the rest is bound)
) -> Decoder:
    """Build the decoder for a lineage.

    Args:
        config: In force when what it decodes is planned.
        input_shape: The network's.
        classes: Version 0's.
        has_open_labels: As the plan says.

    Raises:
        ConfigurationError: The user's own decoder cannot be imported.
    """
    try:
        return Decoder(
            config, input_shape=input_shape, classes=classes, has_open_labels=has_open_labels
        )
    except ValueError as error:
        message = str(error).removeprefix("decoder: ")
        raise ConfigurationError([Problem("decoding.decoder", message)]) from error


def decoders_for(config: DecodingConfig, version: Manifest, lineage: Lineage) -> OpenDecoder:
    """Return what opens decoders for a lineage.

    Args:
        config: In force when what they decode is planned.
        version: Any of the lineage.
        lineage: Has been opened.
    """
    shape = version.architecture.input_shape
    return functools.partial(build_decoder, config, shape, lineage.first_classes)


def reread(
    plan: Plan,
    archive: RecordArchive,
    open_decoder: OpenDecoder,
    quarantine: Quarantine | None = None,
    deferred: DeferredStore | None = None,
) -> BufferedTask:
    """Read the records of a plan once more and make the same task of them.

    Args:
        plan: What was planned.
        archive: The stream.
        open_decoder: Opens one that is set up as it was then.
        quarantine: May have what the stream has deleted.
        deferred: Has what the plan takes in; else the stream may.

    Raises:
        RecordsChangedError: They are gone, or not what the plan says.
    """
    ranges = [planned_range(closed) for closed in plan.ranges]
    records = archive.read([planned.offsets for planned in ranges])
    try:
        with closing(open_decoder(plan.has_open_labels)) as decoder:
            make = functools.partial(_rebuild, ranges, decoder, plan)
            task = quarantine.make_good(plan.task, records, make) if quarantine else make(records)
            return replace(task, taken=_take_in(plan.taken, archive, decoder, deferred))
    except (RangeMismatchError, DeferredLostError) as error:
        raise RecordsChangedError(
            f"task {plan.task} was planned but its records changed: {error}; restore the stream, "
            "or set on_lost_records: continue in the source's section to give the task up as lost"
        ) from error


def _rebuild(
    ranges: list[PlannedRange], decoder: Decoder, plan: Plan, records: Iterator[RecordBatch]
) -> BufferedTask:
    return rebuild_task(ranges, records, decoder, cause=plan.cause)


def _take_in(
    entries: Sequence[Deferred],
    archive: RecordArchive,
    decoder: Decoder,
    deferred: DeferredStore | None = None,
) -> tuple[BufferedTask, ...]:
    return take_in(entries, read_deferred(archive, deferred), decoder) if entries else ()


def read_deferred(archive: RecordArchive, deferred: DeferredStore | None = None) -> ReadDeferred:
    """Return what reads deferred records: from where they are kept, or else from the stream."""

    def read(wanted: Sequence[DeferredIdentity]) -> Iterator[RecordBatch]:
        if deferred is not None and all(each in deferred.records for each in wanted):
            return deferred.batches(wanted)
        return archive.read(ranges_of(wanted))

    return read


def seek_to_places(
    source: Source,
    *,
    known: Mapping[Partition, int],
    topic_ids: Mapping[Partition, str],
    on_lost: Literal["stop", "continue"],
    metrics: Metrics,
    on_skip: Callable[[LostRange], None],
) -> dict[Partition, int]:
    """Move every partition to its place, an unseen one to its beginning.

    Args:
        source: Is moved.
        known: Places in the lineage log.
        topic_ids: Of the topics that these are places in.
        on_lost: What to do when records at a place are gone.
        metrics: Count them.
        on_skip: Told of each range that is gone.

    Returns:
        The places.

    Raises:
        UnavailableError: Records at a place are gone, and the configuration says stop.
    """
    partitions = source.partitions()
    unseen = [each for each in partitions if each not in known]
    places = {each: known[each] for each in partitions if each in known}
    if unseen:
        places |= source.first_places(unseen)
    while True:
        try:
            _require_same_topic(topic_ids, source, places)
            source.seek(places)
        except RecordsLostError as error:
            lost = error.lost
            metrics.count_lost(error.kind, lost)
            if lost.start != places[lost.partition]:
                raise UnavailableError(
                    f"{error}; name the stream that this lineage learned from, or start a new "
                    "lineage in another process.state_directory"
                ) from error
            if on_lost == "stop":
                raise UnavailableError(
                    f"{error}; set on_lost_records: continue in the source's section "
                    "to go on without them"
                ) from error
            on_skip(LostRange(lost, error.reason, error.topic_id))
            places[lost.partition] = lost.end
        else:
            return places


def _require_same_topic(
    topic_ids: Mapping[Partition, str], source: Source, places: Mapping[Partition, int]
) -> None:
    """See that places are not taken for those of a topic that was made under the same name later.

    Raises:
        RecordsLostError: They were another topic's.
    """
    current = source.topic_id()
    for partition, place in places.items():
        if current is not None and topic_ids.get(partition, current) != current:
            raise RecordsLostError(
                OffsetRange(partition, place, source.earliest()[partition]),
                MADE_ANEW,
                kind="replaced",
                topic_id=current,
            )


def rebuild(
    open_decoder: OpenDecoder,
    deferred: DeferredStore,
    plan: Plan,
    records: Iterator[RecordBatch],
) -> BufferedTask:
    """Make a planned task once more of its records.

    Args:
        open_decoder: Opens one that is set up as it was then.
        deferred: Has what the plan takes in.
        plan: What was planned.
        records: Those of its ranges.

    Raises:
        RangeMismatchError: They are gone, or not what the plan says.
        DeferredLostError: What it takes in is gone.
    """
    ranges = [planned_range(closed) for closed in plan.ranges]
    with closing(open_decoder(plan.has_open_labels)) as decoder:
        task = rebuild_task(ranges, records, decoder, cause=plan.cause)
        return replace(task, taken=take_in(plan.taken, deferred.batches, decoder))


def gather_holdouts(
    core: DecidingCore, lineage: Lineage, source: RecordArchive, open_decoder: OpenDecoder
) -> None:
    """Read once more what no readable checkpoint holds; what is gone is told and done without."""
    unfinished = lineage.unfinished.task if lineage.unfinished else None
    log = structlog.get_logger()
    for task, where in lineage.standing.holdouts.items():
        if task in core.holdouts.of_tasks or task == unfinished:
            continue
        try:
            with closing(open_decoder(where.has_open_labels)) as decoder:
                rebuilt = _gather(where, source, decoder)
        except (RangeMismatchError, DeferredLostError) as error:
            log.warning("holdout_lost", task=task, error=str(error))
        else:
            core.holding_out.take(task, where, rebuilt)
            log.info("holdout_gathered", task=task)


def _gather(where: HeldOut, source: RecordArchive, decoder: Decoder) -> BufferedTask:
    planned = [planned_range(closed) for closed in where.ranges]
    records = source.read([each.offsets for each in planned])
    rebuilt = rebuild_task(planned, records, decoder, cause="count")
    return replace(rebuilt, taken=_take_in(where.taken, source, decoder))


def planned_range(closed: ClosedRange) -> PlannedRange:
    """Word the log's range as the task buffer does."""
    return PlannedRange(
        partition=Partition(closed.topic, closed.partition),
        start=closed.start,
        end=closed.end,
        count=closed.count,
        digest=closed.digest,
        rejected=closed.rejected,
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
        topic_id=planned.topic_id,
    )


def record_skip(journal: Journal, lost: LostRange) -> None:
    """Note in the lineage log that a range is gone."""
    (topic, number), start, end = lost.offsets
    journal.record(
        Skip(
            topic=topic,
            partition=number,
            start=start,
            end=end,
            reason=lost.reason,
            topic_id=lost.topic_id,
        )
    )
    structlog.get_logger().warning(
        "records_skipped",
        topic=topic,
        partition=number,
        start=start,
        end=end,
        reason=lost.reason,
    )


def recover_deferred(
    state: StateDirectory, archive: RecordArchive, open_decoder: OpenDecoder
) -> bool:
    """Read deferred records that are damaged or missing once more; return whether all are there.

    The whole range that their plan closed is read and held against its digest: another topic of the
    same name may hold others.
    """
    missing = set(state.missing)
    log = structlog.get_logger()
    for logged in read_lineage_log(state.log_path):
        plan = logged.entry
        if not isinstance(plan, Plan) or not any(each.task == plan.task for each in missing):
            continue
        ranges = [planned_range(closed) for closed in plan.ranges if closed.deferred]
        records = archive.read([planned.offsets for planned in ranges])
        try:
            with closing(open_decoder(plan.has_open_labels)) as decoder:
                task = rebuild_task(ranges, records, decoder, cause=plan.cause)
        except RangeMismatchError as error:
            log.warning("deferred_lost", task=plan.task, error=str(error))
            continue
        named = named_records(plan.task, task, among=task.names)
        found = [each for each in named if each.identity in missing]
        state.deferred.put(plan.task, found)
        missing -= {each.identity for each in found}
        log.warning("deferred_gathered", task=plan.task, records=len(found))
    return not missing
