"""Reading records once more while the process runs: asked for by one thread, done by the source's.

A source has one owner, the intake thread. Whoever needs the records of a range again hands over
what is to be done with them; it is done there, between two polls.
"""

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from teacherd.consumers.record import OffsetRange
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import Source, SourceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Request:
    ranges: tuple[OffsetRange, ...]
    use: Callable[[Iterator[RecordBatch]], Any]
    answer: Future[Any]


class ReadRequests:
    """A queue of them; `ask` is for any thread, `serve` for the owner of the source."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._is_source_away = False

    @property
    def is_source_away(self) -> bool:
        """Whether what was asked for last could not be read for now; any thread may look."""
        return self._is_source_away

    def ask(
        self, ranges: Sequence[OffsetRange], use: Callable[[Iterator[RecordBatch]], T]
    ) -> Future[T]:
        """Have `use` called with the records of these ranges; return its answer to come.

        What is no longer there is left out. A source that is away is asked again later; what
        `use` raises is the answer.
        """
        request = _Request(tuple(ranges), use, Future())
        self._waiting.put(request)
        return request.answer

    def serve(self, source: Source, *, on_batch: Callable[[], None] = lambda: None) -> None:
        """Answer all that waits.

        Args:
            source: Where it is read.
            on_batch: Called before each batch: a task may have more than are read in a moment.

        Raises:
            SourceError: The source is away for now; the request waits on.
        """
        while not self._waiting.empty():
            request = self._waiting.get()
            try:
                batches = _told(source.read(request.ranges), on_batch)
                request.answer.set_result(request.use(batches))
            except SourceError:
                self._is_source_away = True
                self._waiting.put(request)
                raise
            except Exception as error:  # noqa: BLE001 (raised again where the answer is taken)
                request.answer.set_exception(error)
            self._is_source_away = False


def _told(batches: Iterator[RecordBatch], on_batch: Callable[[], None]) -> Iterator[RecordBatch]:
    for batch in batches:
        on_batch()
        yield batch
