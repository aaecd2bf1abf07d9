"""Lets a start end early, when the process is told to end while it recovers.

Everything up to there is as after a crash: the next start does it again from the log. The same
checks show that a start goes on.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.record_archive import RecordArchive
from teacherd.consumers.record_batch import RecordBatch


class StopRequestedError(Exception):
    """The process was told to end before it had started; no failure."""


class Interruption:
    """Asked now and then by whatever takes long at a start, until that is over.

    Args:
        stop: Set when the process is to end.
        on_progress: Called at each check of a start: it takes long, and does not hang.
    """

    def __init__(self, stop: threading.Event, *, on_progress: Callable[[], None]) -> None:
        self._stop = stop
        self._on_progress = on_progress
        self._is_over = False

    def end(self) -> None:
        """The start is complete: from now on the loops look at the stop themselves."""
        self._is_over = True

    def check(self) -> None:
        """Go on, or not.

        Raises:
            StopRequestedError: The process is to end.
        """
        if self._is_over:
            return
        if self._stop.is_set():
            raise StopRequestedError
        self._on_progress()


class InterruptibleArchive:
    """Records of the past as another archive gives them, with a check before each batch."""

    def __init__(self, archive: RecordArchive, interruption: Interruption) -> None:
        self._archive = archive
        self._interruption = interruption

    def earliest(self) -> Mapping[Partition, int]:
        """Return each partition's first offset that can still be read."""
        return self._archive.earliest()

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RecordBatch]:
        """Yield the records of these ranges."""
        for batch in self._archive.read(ranges):
            self._interruption.check()
            yield batch

    def close(self) -> None:
        """Give back files and connections."""
        self._archive.close()
