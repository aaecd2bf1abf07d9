"""The contract between the daemon and whatever delivers records: the stream log, or Kafka."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch


class SourceError(Exception):
    """The source cannot deliver for now; the call may be repeated after a pause."""


class CommitError(SourceError):
    """The source did not note the places; reading is none the worse for it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """One of few, such as `CoordinatorNotAvailableError`."""


class SourceRefusedError(Exception):
    """The source will not be read as it is configured; trying again does not help."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        """Of the setting, within the source's section."""
        self.message = message


MADE_ANEW = "the topic was deleted and made anew: what lay in it, learned or not, is gone"

LossKind = Literal["deleted", "truncated", "replaced", "compacted"]
"""Why records are gone: retention, a log that was cut back, a topic made anew, compaction."""


class RecordsLostError(Exception):
    """Records that were promised are gone: never retried, never skipped silently.

    Args:
        lost: From the position that cannot be read to where reading can go on. An end before the
            start means that the log was cut back: from there on it holds other records than before.
        topic_id: Of the topic that was made anew, where that is what happened.
    """

    def __init__(
        self,
        lost: OffsetRange,
        reason: str,
        *,
        kind: LossKind = "deleted",
        topic_id: str | None = None,
    ) -> None:
        topic, number = lost.partition
        low, high = sorted((lost.start, lost.end))
        super().__init__(f"{topic}/{number} offsets [{low}, {high}) are gone: {reason}")
        self.lost = lost
        self.reason = reason
        self.kind = kind
        self.topic_id = topic_id


@dataclass(frozen=True, slots=True)
class Lag:
    """What one partition still holds beyond the source's position."""

    records: int
    oldest_timestamp_ms: int | None
    """Timestamp of the first record beyond the position, as near as is known; None when there is
    none."""
    is_stalled: bool = False
    """Whether it has given nothing for too long although it has records and is asked for them."""


class Release(Protocol):
    """Whoever passes releases on to the source."""

    def __call__(
        self, places: Mapping[Partition, int], *, needed_from: Mapping[Partition, int]
    ) -> None:
        """See `Source.release`."""


class Retention(NamedTuple):
    """What a source deletes although nobody has learned it, by its strictest topic."""

    seconds: float | None = None
    """Records older than this; None keeps all."""
    num_bytes: int | None = None
    """The oldest records of a partition while it is longer than this; None sets no bound."""


class Source(Protocol):
    """Records in, places out.

    A source is owned by one thread. It never sleeps beyond the timeout it is given, never drops a
    record and never commits on its own: places live in the lineage log, `release` only tells the
    source what is safely below them.
    """

    def partitions(self) -> Sequence[Partition]:
        """Return the partitions that this process reads, known at this moment."""

    def earliest(self) -> Mapping[Partition, int]:
        """Return each partition's first offset that can still be read (its end, if it is empty)."""

    def topic_id(self) -> str | None:
        """Return what tells the stream from another one that is given its name later.

        None where nothing does. When it changes, `seek` and `poll` raise RecordsLostError once for
        each partition, before they give any record of the new stream that they know to be one.
        """

    def first_places(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return where to begin in partitions of which the lineage knows nothing.

        Raises:
            SourceError: For now there is no answer.
        """

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Move to these positions.

        Raises:
            RecordsLostError: Records at or after a position are no longer there.
        """

    def poll(self, max_records: int, timeout_seconds: float) -> RecordBatch | None:
        """Return the next records of one partition and move past them.

        A source with several partitions takes them in turn. Returns None when nothing came within
        the timeout, or while paused. A batch may be shorter than asked for, so that large records
        do not add up to unbounded memory.

        Raises:
            SourceError: For now there is no answer.
            RecordsLostError: The next records were deleted before they were read.
        """

    def positions(self) -> Mapping[Partition, int]:
        """Return for each partition the offset from which the next poll reads.

        A range [start, end) has been read once the position is at or beyond its end: offsets may
        have gaps, so a record's offset + 1 is only a lower bound.
        """

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Yield the records of these ranges once more, in order, without moving positions.

        What is no longer there is not yielded; the plan's count and digest find it out.
        """

    def pause(self) -> None:
        """Let `poll` return nothing until `resume`."""

    def resume(self) -> None:
        """End a pause."""

    def release(
        self, places: Mapping[Partition, int], *, needed_from: Mapping[Partition, int]
    ) -> None:
        """Tell the source how far the records are decided, and how far they are still needed.

        Called after the checkpoint that contains their effect.

        Args:
            places: Everything below is decided; Kafka's group commits it, for whoever asks for lag.
            needed_from: Nothing below is read again, at or below the places: the oldest checkpoint
                kept stands there. Retention never passes it; a partition that is not in it keeps
                what it was told before. It may go back, for a task that is to be tried again.

        Raises:
            CommitError: The source could not take it; the same may be released again.
            SourceRefusedError: Another lineage learns in the place of this one.
        """

    def lag(self) -> Mapping[Partition, Lag]:
        """Return what lies beyond the position of each partition."""

    def retention(self) -> Retention:
        """Return what is deleted although it was not learned; asked now and then.

        Raises:
            SourceError: For now there is no answer.
        """

    def close(self) -> None:
        """Give back files and connections; further calls are errors."""
