"""What a start makes up for: the records of an unfinished plan, the partitions' places."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
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
from teacherd.daemon.entries import ClosedRange, Plan, Skip
from teacherd.daemon.errors import ConfigurationError, Problem, UnavailableError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.quarantine import Quarantine
from teacherd.models.artifact import Manifest


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


def build_decoder(config: DecodingConfig, manifest: Manifest) -> Decoder:
    """Build the decoder for a network.

    Raises:
        ConfigurationError: The user's own decoder cannot be imported.
    """
    shape = manifest.architecture.input_shape
    try:
        return Decoder(config, input_shape=shape, classes=manifest.classes)
    except ValueError as error:
        message = str(error).removeprefix("decoder: ")
        raise ConfigurationError([Problem("decoding.decoder", message)]) from error


def reread(
    plan: Plan, archive: RecordArchive, decoder: Decoder, quarantine: Quarantine | None = None
) -> BufferedTask:
    """Read the records of a plan once more and make the same task of them.

    Args:
        plan: What was planned.
        archive: The stream.
        decoder: Set up as it was then.
        quarantine: May have what the stream has deleted.

    Raises:
        RecordsChangedError: They are gone, or not what the plan says.
    """
    ranges = [planned_range(closed) for closed in plan.ranges]
    records = archive.read([planned.offsets for planned in ranges])
    make = functools.partial(_rebuild, ranges, decoder, plan)
    try:
        return quarantine.make_good(plan.task, records, make) if quarantine else make(records)
    except RangeMismatchError as error:
        raise RecordsChangedError(
            f"task {plan.task} was planned but its records changed: {error}; restore the stream, "
            "or set on_lost_records: continue in the source's section to give the task up as lost"
        ) from error


def _rebuild(
    ranges: list[PlannedRange], decoder: Decoder, plan: Plan, records: Iterator[RecordBatch]
) -> BufferedTask:
    return rebuild_task(ranges, records, decoder, cause=plan.cause)


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
    config: DecodingConfig, manifest: Manifest, plan: Plan, records: Iterator[RecordBatch]
) -> BufferedTask:
    """Make a planned task once more of its records.

    Raises:
        RangeMismatchError: They are gone, or not what the plan says.
    """
    ranges = [planned_range(closed) for closed in plan.ranges]
    with closing(build_decoder(config, manifest)) as decoder:
        return rebuild_task(ranges, records, decoder, cause=plan.cause)


def gather_holdouts(
    core: DecidingCore, lineage: Lineage, source: RecordArchive, decoder: Decoder
) -> None:
    """Read once more what no readable checkpoint holds; what is gone is told and done without."""
    unfinished = lineage.unfinished.task if lineage.unfinished else None
    for task, ranges in lineage.standing.holdouts.items():
        if task in core.holdouts.of_tasks or task == unfinished:
            continue
        planned = [planned_range(closed) for closed in ranges]
        records = source.read([each.offsets for each in planned])
        log = structlog.get_logger()
        try:
            rebuilt = rebuild_task(planned, records, decoder, cause="count")
        except RangeMismatchError as error:
            log.warning("holdout_lost", task=task, error=str(error))
        else:
            core.take_holdout(task, ranges, rebuilt)
            log.info("holdout_gathered", task=task)


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
