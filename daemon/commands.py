"""What a person may tell a running daemon: handed to the learning thread, taken between steps."""

import json
import queue
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from teacherd.daemon.errors import TeacherdError, UsageError

Verb = Literal["promote", "rollback", "retry", "drain"]
VERBS: tuple[Verb, ...] = ("promote", "rollback", "retry", "drain")
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One of the verbs, and the version or task that it is about, if any."""

    verb: Verb
    number: int | None


def parse_command(text: bytes) -> Command:
    """Return what a request such as `{"verb": "rollback", "number": 3}` asks for.

    Raises:
        UsageError: It is none.
    """
    try:
        request = json.loads(text)
        verb, number = request["verb"], request["number"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError("the request is no JSON with verb and number") from error
    if verb not in VERBS or not (number is None or type(number) is int):
        raise UsageError(f"{verb!r} of {number!r} is no command; commands are {', '.join(VERBS)}")
    return Command(verb, number)


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
