"""How far each partition is behind its last stable offset, for how long, and whether it stalls."""

from collections.abc import Mapping
from dataclasses import dataclass

from teacherd.consumers.record import Partition
from teacherd.consumers.source import Lag


@dataclass(slots=True)
class _Standing:
    """A partition that has not moved since it was looked at."""

    position: int
    since: float
    """When it was first seen there, or last had nothing more to give, on the monotonic clock."""
    caught_up_ms: int | None = None
    """When it was last seen without records beyond."""


class KafkaLag:
    """Folds one look after the other.

    Aborted records and transaction markers count as records only until they are passed, which
    the next poll does.
    """

    def __init__(self, *, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._standings: dict[Partition, _Standing] = {}

    def update(
        self,
        ends: Mapping[Partition, int],
        positions: Mapping[Partition, int],
        oldest_ms: Mapping[Partition, int],
        *,
        is_paused: bool,
        now: float,
        monotonic: float,
    ) -> dict[Partition, Lag]:
        """Return what lies beyond each position.

        Args:
            ends: Last stable offsets.
            positions: Where the next polls read.
            oldest_ms: Timestamp of a partition's last record before, or of the first one beyond,
                where any is known.
            is_paused: A partition does not stall while nobody asks for records.
            now: Wall clock, seconds since the epoch.
            monotonic: Seconds: the wall clock may be set, which is no stall, nor its end.
        """
        lags = {}
        for partition, end in ends.items():
            position = positions.get(partition)
            if position is None:
                continue
            standing = self._standing(partition, position, monotonic)
            records = max(0, end - position)
            if records == 0:
                standing.caught_up_ms = int(now * 1000)
            if records == 0 or is_paused:
                standing.since = monotonic
            lags[partition] = Lag(
                records,
                (standing.caught_up_ms or oldest_ms.get(partition)) if records else None,
                is_stalled=monotonic - standing.since >= self._stall_seconds,
            )
        return lags

    def _standing(self, partition: Partition, position: int, monotonic: float) -> _Standing:
        standing = self._standings.get(partition)
        if standing is None or standing.position != position:
            standing = self._standings[partition] = _Standing(position, since=monotonic)
        return standing
