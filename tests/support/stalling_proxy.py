"""A TCP proxy in front of a broker behind which fetches find nothing, while all else works."""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

_FETCH = 1
_FIRST_FLEXIBLE_FETCH, _LAST_WITH_REPLICA = 12, 14
_HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 0.2
_SEND_SECONDS = 60.0
_BEFORE_SESSION_BYTES = 17
"""Replica, longest wait, least and most bytes, isolation."""


class _Connection:
    """One client's connection and the broker's, whose answers come in the order of requests."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client = client
        self.broker = broker
        self.num_open = 0
        self.changed = threading.Condition()


class StallingProxy:
    """Passes requests and answers on; while it stalls, it answers fetches itself, with nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server((_HOST, 0))
        self._listener.settimeout(_TIMEOUT_SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self.target_port = 0
        self._is_stalling = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[_Connection] = []
        self._start(self._accept)

    def stall(self) -> None:
        """Let fetches find nothing from now on; those that wait at the broker end first."""
        self._is_stalling.set()
        for connection in list(self._connections):
            with connection.changed:
                while connection.num_open and connection in self._connections:
                    connection.changed.wait()

    def flow(self) -> None:
        """Pass everything on again."""
        self._is_stalling.clear()

    def close(self) -> None:
        """End all connections."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                broker = socket.create_connection((_HOST, self.target_port))
                for each in (client, broker):
                    each.settimeout(_SEND_SECONDS)
                connection = _Connection(client, broker)
                self._connections.append(connection)
                self._start(self._pass_requests, connection)
                self._start(self._pass_answers, connection)

    def _pass_requests(self, connection: _Connection) -> None:
        with connection.client, connection.broker, contextlib.suppress(OSError, ValueError):
            while (request := self._read_frame(connection.client)) is not None:
                (kind,) = struct.unpack_from(">h", request)
                with connection.changed:
                    is_passed = kind != _FETCH or not self._is_stalling.is_set()
                    connection.num_open += is_passed
                if is_passed:
                    connection.broker.sendall(_frame(request))
                else:
                    self._answer_with_nothing(connection, request)

    def _pass_answers(self, connection: _Connection) -> None:
        with connection.client, connection.broker, contextlib.suppress(OSError, ValueError):
            while (answer := self._read_frame(connection.broker)) is not None:
                connection.client.sendall(_frame(answer))
                with connection.changed:
                    connection.num_open -= 1
                    connection.changed.notify_all()
        with connection.changed:
            self._connections.remove(connection)
            connection.changed.notify_all()

    def _answer_with_nothing(self, connection: _Connection, request: bytes) -> None:
        """Say that no partition of the fetch session has anything new."""
        time.sleep(_TIMEOUT_SECONDS)  # as a broker waits for records
        with connection.changed:
            connection.changed.wait_for(lambda: connection.num_open == 0 or self._stop.is_set())
        connection.client.sendall(_frame(_nothing_for(request)))

    def _read_frame(self, connection: socket.socket) -> bytes | None:
        head = self._read(connection, 4)
        return None if head is None else self._read(connection, int.from_bytes(head))

    def _read(self, connection: socket.socket, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            if self._stop.is_set():
                return None
            # No timeout of the socket, which would also break off what is being sent; a socket
            # that the other thread has closed is a ValueError here.
            if select.select([connection], [], [], _TIMEOUT_SECONDS)[0]:
                more = connection.recv(size - len(data))
                if not more:
                    return None
                data += more
        return data


def _frame(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def _nothing_for(request: bytes) -> bytes:
    """Return an answer to a fetch: no error, the request's session, no topics."""
    _, version, correlation, client_id = struct.unpack_from(">hhih", request)
    assert _FIRST_FLEXIBLE_FETCH <= version <= _LAST_WITH_REPLICA, f"fetch version {version}"
    body = struct.calcsize(">hhih") + max(0, client_id) + 1
    (session,) = struct.unpack_from(">i", request, body + _BEFORE_SESSION_BYTES)
    no_tags, no_topics = b"\0", b"\1"
    head = struct.pack(">i", correlation) + no_tags
    return head + struct.pack(">ihi", 0, 0, session) + no_topics + no_tags
