"""What a person may tell a running daemon: handed to the learning thread, taken between steps."""

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from teacherd.daemon.errors import TeacherdError

Verb = Literal["promote", "rollback", "retry"]
VERBS: tuple[Verb, ...] = ("promote", "rollback", "retry")
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One of the verbs, and the version or task that it is about."""

    verb: Verb
    number: int | None


class Commands:
    """A queue of them: `ask` is for any thread, `obey` for the learning thread."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Command, Future[Answer]]] = queue.SimpleQueue()

    def ask(self, command: Command) -> Future[Answer]:
        """Have a command carried out; return its answer to come."""
        answer: Future[Answer] = Future()
        self._waiting.put((command, answer))
        return answer

    def obey(self, handlers: Mapping[Verb, Callable[[int | None], Answer]]) -> None:
        """Carry out all that waits; what is refused is the answer.

        Raises:
            StateError: The disk refused; the process must end, and the answer says so too.
        """
        while not self._waiting.empty():
            command, answer = self._waiting.get()
            try:
                answer.set_result(handlers[command.verb](command.number))
            except TeacherdError as error:
                answer.set_exception(error)
                if not error.is_refusal:
                    raise
