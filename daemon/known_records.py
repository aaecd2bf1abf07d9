"""Knows a stream again by the records right before the places, and finds where it parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from teacherd.consumers.range_digest import digest_of
from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.source import RecordsLostError, Source
from teacherd.daemon.entries import ClosedRange, Entry, Plan, Skip

OTHER_RECORDS = (
    "other records lie where these were; it is another log, or was restored from an older copy and "
    "has been appended to since"
)


class KnownRecords:
    """Compares what lies below the places with what was planned there.

    Args:
        last_digests: Of the record right before each place; followed while it changes.
        read_entries: Reads the lineage log from its beginning.
    """

    def __init__(
        self,
        last_digests: Mapping[Partition, str],
        read_entries: Callable[[], Iterable[Entry]],
    ) -> None:
        self._last_digests = last_digests
        self._read_entries = read_entries

    def require_same(self, source: Source, places: Mapping[Partition, int]) -> None:
        """See that the records before the places are those that were planned.

        What retention has deleted is not compared: only who has seen them learned deletes records.

        Raises:
            RecordsLostError: They are not; from where the stream parts from what was planned on, to
                the place, records were learned that it does not hold.
            SourceError: For now there is no answer.
        """
        for partition, place in places.items():
            expected = self._last_digests.get(partition)
            if expected is None or _is_there(source, partition, place, expected) is not False:
                continue
            fork = self._find_fork(source, partition)
            raise RecordsLostError(
                OffsetRange(partition, place, fork), OTHER_RECORDS, kind="truncated"
            )

    def _find_fork(self, source: Source, partition: Partition) -> int:
        """Return the end of the last range whose last record is still there, else the first offset.

        What was appended since may begin inside the range after it.
        """
        for closed in reversed(list(_ranges(self._read_entries(), partition))):
            digest = closed.last_digest
            if digest is not None and _is_there(source, partition, closed.end, digest):
                return closed.end
        return source.earliest()[partition]


def _is_there(source: Source, partition: Partition, end: int, digest: str) -> bool | None:
    """Tell whether the record right before an offset has a digest; None where there is none."""
    for batch in source.read([OffsetRange(partition, end - 1, end)]):
        return digest_of(batch) == digest
    return None


def _ranges(entries: Iterable[Entry], partition: Partition) -> Iterator[ClosedRange]:
    """Yield what was planned of a partition since its offsets began again, if they ever did."""
    since_then: list[ClosedRange] = []
    for entry in entries:
        if isinstance(entry, Plan):
            since_then += [
                closed
                for closed in entry.ranges
                if Partition(closed.topic, closed.partition) == partition
            ]
        elif (
            isinstance(entry, Skip)
            and Partition(entry.topic, entry.partition) == partition
            and entry.end < entry.start
        ):
            since_then = [closed for closed in since_then if closed.end <= entry.end]
    yield from since_then
