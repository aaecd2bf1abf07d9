"""Moves a source to the places where a lineage goes on, and notes what is gone there."""

from collections.abc import Callable, Mapping
from typing import Literal

import structlog

from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.source import MADE_ANEW, RecordsLostError, Source
from teacherd.consumers.task_buffer import LostRange
from teacherd.daemon.entries import Skip
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.journal import Journal
from teacherd.daemon.known_records import KnownRecords
from teacherd.daemon.metrics import Metrics


def seek_to_places(
    source: Source,
    *,
    known: Mapping[Partition, int],
    topic_ids: Mapping[Partition, str],
    on_lost: Literal["stop", "continue"],
    metrics: Metrics,
    on_skip: Callable[[LostRange], None],
    records: KnownRecords | None = None,
) -> dict[Partition, int]:
    """Move every partition to its place, an unseen one to its beginning.

    Args:
        source: Is moved.
        known: Places in the lineage log.
        topic_ids: Of the topics that these are places in.
        on_lost: What to do when records at a place are gone.
        metrics: Count them.
        on_skip: Told of each range that is gone.
        records: Those before the places, where the source does not tell by itself that others lie
            there now.

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
            if records is not None:
                records.require_same(source, places)
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
