"""Commands to a running daemon, through a Unix socket in its state directory that is its owner's.

A request is one line of JSON, `{"verb": "rollback", "number": 3}`; the answer is another, with
`answer`, or with `error` and the exit code of the verb.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from teacherd.daemon.commands import Answer, Command, Commands, parse_command
from teacherd.daemon.errors import ExitCode, StateError, TeacherdError, TemporaryError

SOCKET_NAME = "control.sock"
_POLL_SECONDS = 0.2
_REQUEST_SECONDS = 5.0
_ANSWER_SECONDS = 600.0
"""The learning thread may be measuring, or writing a large checkpoint."""
_LONGEST_REQUEST = 4096


class NoDaemonError(Exception):
    """Nobody listens in this state directory."""


class RemoteError(TeacherdError):
    """What the daemon answered; ends the verb as it would have ended there."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(exit_code)


class ControlSocket:
    """Listens from construction until `close`; `run` is a thread's.

    Args:
        directory: The state directory, whose lock this process holds.
        stop: Set when the process ends.

    Raises:
        StateError: The socket cannot be made.
    """

    def __init__(self, directory: Path, commands: Commands, *, stop: threading.Event) -> None:
        self._directory = directory
        self._commands = commands
        self._stop = stop
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reachable(directory) as path:
                # Left by a process that was killed: the lock says that it is no more.
                (directory / SOCKET_NAME).unlink(missing_ok=True)
                self._socket.bind(path)
                # Before anybody can connect: that needs `listen`.
                (directory / SOCKET_NAME).chmod(0o600)
                self._socket.listen()
        except OSError as error:
            self._socket.close()
            raise StateError(
                directory / SOCKET_NAME, f"cannot be made: {error.strerror}"
            ) from error
        self._socket.settimeout(_POLL_SECONDS)

    def run(self) -> None:
        """Answer one caller after the other until told to stop."""
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            # A caller who goes away has had what it asked for.
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_REQUEST_SECONDS)
                connection.sendall(json.dumps(self._answer(connection)).encode() + b"\n")

    def close(self) -> None:
        """Stop listening; the name goes, too."""
        self._socket.close()
        with contextlib.suppress(OSError):
            (self._directory / SOCKET_NAME).unlink()

    def _answer(self, connection: socket.socket) -> Answer:
        try:
            command = parse_command(_read_line(connection))
            return {"answer": self._wait_for(self._commands.ask(command))}
        except TeacherdError as error:
            return {"error": str(error), "exit_code": int(error.exit_code)}

    def _wait_for(self, answer: Future[Answer]) -> Answer:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                return answer.result(timeout=_POLL_SECONDS)
        raise TemporaryError("the daemon is ending; ask again when it has started")


def ask_daemon(directory: Path, command: Command) -> Answer:
    """Have the daemon of a state directory carry a command out; return its answer.

    Raises:
        NoDaemonError: There is none.
        RemoteError: It refused, or failed.
        TemporaryError: It does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            with _reachable(directory) as path:
                connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemonError from error
        except OSError as error:
            raise TemporaryError(f"{directory / SOCKET_NAME}: {error.strerror}") from error
        try:
            request = {"verb": command.verb, "number": command.number}
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(connection))
        except (OSError, ValueError) as error:
            raise TemporaryError(
                "the daemon did not answer; `teacherd status` says what became of it"
            ) from error
    if "error" in reply:
        raise RemoteError(reply["error"], reply["exit_code"])
    answer: Answer = reply["answer"]
    return answer


@contextlib.contextmanager
def _reachable(directory: Path) -> Iterator[str]:
    """Give a short name of the socket: the system takes no more than 107 bytes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) <= _LONGEST_REQUEST:
        part = connection.recv(_LONGEST_REQUEST)
        if not part:
            break
        line += part
    return line
