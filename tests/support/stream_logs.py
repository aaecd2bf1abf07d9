"""Stream logs as tests open them, on a clock that stands, and what they read."""

from pathlib import Path

from records import INSTANCES

from teacherd.consumers.record import NewRecord, Record
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        """Return the time."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


class StreamLogs:
    """A test's one log, opened as often as it is called.

    Args:
        path: Of the file.
        clock: Tells all of them the time.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._opened: list[StreamLog] = []

    def __call__(self, **config: object) -> StreamLog:
        """Open the log, with settings that differ from the defaults where said."""
        log = StreamLog(
            StreamLogConfig(path=str(self._path), **config),
            now=self._clock.now,
            monotonic=self._clock.now,
            sleep=self._clock.sleep,
        )
        self._opened.append(log)
        return log

    def close(self) -> None:
        """Close all that were opened."""
        for log in self._opened:
            log.close()


def values(count: int, *, start: int = 0, size: int = 1) -> list[NewRecord]:
    """Return records whose values count up."""
    return [NewRecord(b"%d" % number * size) for number in range(start, start + count)]


def poll_all(log: StreamLog, max_records: int = 100) -> list[Record]:
    """Return everything that can be read now."""
    records: list[Record] = []
    while batch := log.poll(max_records, 0.0):
        records += batch
    return records


def poll_all_from(log: StreamLog, place: int) -> list[Record]:
    """Return everything from a place on."""
    log.seek({INSTANCES: place})
    return poll_all(log)
