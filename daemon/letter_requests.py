"""Dead letters that the learning thread has: kept by the thread that owns where they go."""

import queue
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from teacherd.consumers.dead_letters import DeadLetter, DeadLetters
from teacherd.consumers.source import SourceError


@dataclass(frozen=True, slots=True)
class _Request:
    letters: tuple[DeadLetter, ...]
    answer: Future[None]


class LetterRequests:
    """A queue of them; `ask` is for any thread, `serve` for the owner of the dead letters."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Request] = queue.SimpleQueue()

    def ask(self, letters: Sequence[DeadLetter]) -> Future[None]:
        """Have letters kept; the answer comes when they are durable, however long that takes."""
        request = _Request(tuple(letters), Future())
        self._waiting.put(request)
        return request.answer

    def serve(self, dead_letters: DeadLetters) -> list[DeadLetter]:
        """Keep all that wait; return them.

        Raises:
            SourceError: For now they cannot be kept; the request waits on.
        """
        kept: list[DeadLetter] = []
        while not self._waiting.empty():
            request = self._waiting.get()
            try:
                dead_letters.add(request.letters)
            except SourceError:
                self._waiting.put(request)
                raise
            except Exception as error:  # noqa: BLE001 (raised again where the answer is taken)
                request.answer.set_exception(error)
            else:
                kept += request.letters
                request.answer.set_result(None)
        return kept
