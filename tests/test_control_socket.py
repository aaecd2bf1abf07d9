"""Commands through the socket: for the owner only, one line each, told when they cannot be."""

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teacherd.daemon.commands import Answer, Command, Commands, Verb
from teacherd.daemon.control_socket import (
    SOCKET_NAME,
    ControlSocket,
    NoDaemonError,
    RemoteError,
    ask_daemon,
)
from teacherd.daemon.errors import ExitCode, StateError, TemporaryError, UsageError

Handlers = dict[Verb, Callable[[int | None], Answer]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory whose name alone is longer than the system allows a socket's to be."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    return directory


class Listener:
    """A control socket with a thread that obeys, as the learning thread does."""

    def __init__(self, directory: Path, handlers: Handlers) -> None:
        self.stop = threading.Event()
        self.commands = Commands()
        self.socket = ControlSocket(directory, self.commands, stop=self.stop)
        self.failed: list[Exception] = []
        self._handlers = handlers
        targets = (self.socket.run, self._obey)
        self._threads = [threading.Thread(target=target) for target in targets]
        for thread in self._threads:
            thread.start()

    def _obey(self) -> None:
        while not self.stop.wait(0.01):
            try:
                self.commands.obey(self._handlers)
            except StateError as error:
                self.failed.append(error)

    def close(self) -> None:
        """End both threads."""
        self.stop.set()
        for thread in self._threads:
            thread.join()
        self.socket.close()


@pytest.fixture
def listen(directory: Path) -> Iterator[Callable[[Handlers], Listener]]:
    """Give a maker of listeners; close them all."""
    made: list[Listener] = []

    def make(handlers: Handlers) -> Listener:
        made.append(Listener(directory, handlers))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


def test_a_command_is_carried_out_by_whoever_obeys(
    directory: Path, listen: Callable[[Handlers], Listener]
) -> None:
    """The answer comes back as it was given."""
    listen({"rollback": lambda number: {"version": 8, "to": number}})

    assert {"version": 8, "to": 3} == ask_daemon(directory, Command("rollback", 3))
    assert {"version": 8, "to": None} == ask_daemon(directory, Command("rollback", None))


def test_only_the_owner_may_use_it(directory: Path, listen: Callable[[Handlers], Listener]) -> None:
    """Mode 0600; and it is gone when the daemon is."""
    listener = listen({})
    mode = (directory / SOCKET_NAME).stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert 0o600 == stat.S_IMODE(mode)

    listener.close()

    assert not (directory / SOCKET_NAME).exists()


def test_a_refusal_ends_the_verb_as_it_would_have_there(
    directory: Path, listen: Callable[[Handlers], Listener]
) -> None:
    """Message and exit code; the daemon goes on."""

    def refuse(_: int | None) -> Answer:
        raise UsageError("there is no version 9")

    listener = listen({"promote": refuse})
    with pytest.raises(RemoteError, match="there is no version 9") as caught:
        ask_daemon(directory, Command("promote", 9))

    assert ExitCode.USAGE == caught.value.exit_code
    assert [] == listener.failed


def test_a_disk_that_fails_ends_the_daemon_and_is_told(
    directory: Path, listen: Callable[[Handlers], Listener]
) -> None:
    """What is half done is mended by the next start, so the process must end."""

    def fail(_: int | None) -> Answer:
        raise StateError(Path("lineage.log"), "no space")

    listener = listen({"promote": fail})
    with pytest.raises(RemoteError, match="no space") as caught:
        ask_daemon(directory, Command("promote", 9))

    assert ExitCode.STATE == caught.value.exit_code
    assert 1 == len(listener.failed)


def test_without_a_daemon_there_is_nobody_to_ask(directory: Path) -> None:
    """Neither in a fresh directory nor beside what a killed one left."""
    with pytest.raises(NoDaemonError):
        ask_daemon(directory, Command("rollback", None))

    left = ControlSocket(directory, Commands(), stop=threading.Event())
    left._socket.close()

    with pytest.raises(NoDaemonError):
        ask_daemon(directory, Command("rollback", None))


def test_what_a_killed_daemon_left_is_in_nobodys_way(
    directory: Path, listen: Callable[[Handlers], Listener]
) -> None:
    """The lock has said that it is no more."""
    left = ControlSocket(directory, Commands(), stop=threading.Event())
    left._socket.close()
    listen({"retry": lambda number: {"task": number}})

    assert {"task": 4} == ask_daemon(directory, Command("retry", 4))


@pytest.mark.parametrize(
    "line", [b"junk\n", b"[]\n", b'{"verb": "stop", "number": 1}\n', b'{"verb": "retry"}\n', b""]
)
def test_what_is_no_command_is_told(
    directory: Path,
    listen: Callable[[Handlers], Listener],
    monkeypatch: pytest.MonkeyPatch,
    line: bytes,
) -> None:
    """And the next caller is served as if nothing had been."""
    listen({"retry": lambda number: {"task": number}})
    monkeypatch.chdir(directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(SOCKET_NAME)
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        reply = json.loads(connection.makefile().readline())

    assert int(ExitCode.USAGE) == reply["exit_code"]
    assert {"task": 4} == ask_daemon(directory, Command("retry", 4))


def test_a_daemon_that_ends_says_so(
    directory: Path, listen: Callable[[Handlers], Listener]
) -> None:
    """Nobody waits for an answer that cannot come."""
    listener = listen({})
    # Nobody obeys: the command stays in the queue.
    listener.commands.obey = lambda _: None  # type: ignore[method-assign]

    def end_once_it_waits() -> None:
        while listener.commands._waiting.empty() and not listener.stop.is_set():
            listener.stop.wait(0.01)
        listener.stop.set()

    threading.Thread(target=end_once_it_waits).start()
    with pytest.raises((RemoteError, TemporaryError)) as caught:
        ask_daemon(directory, Command("rollback", None))

    assert ExitCode.TEMPORARY == caught.value.exit_code
