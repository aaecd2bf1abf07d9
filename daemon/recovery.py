"""What a start reads once more: records of an unfinished plan, of holdouts, and deferred ones."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import structlog

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_rebuilding import RangeMismatchError, rebuild_task
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.deferred_offsets import DeferredIdentity, DeferredLostError
from teacherd.daemon.deferred_store import DeferredStore, named_records
from teacherd.daemon.entries import Deferred, Plan
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_decoding import OpenDecoder
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.quarantine import Quarantine
from teacherd.daemon.range_words import planned_range
from teacherd.daemon.standing import HeldOut
from teacherd.daemon.state_directory import StateDirectory
from teacherd.daemon.taking_in import ReadDeferred, ranges_of, take_in


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
