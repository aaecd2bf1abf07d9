"""Makes kafka-python's clients: one that finds no broker says why, and all read in large pieces."""

import ssl
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from kafka.errors import KafkaConnectionError, KafkaTimeoutError

from teacherd.consumers.kafka_errors import REFUSALS, word

_RECEIVE_BYTES = 256 << 10
"""kafka-python asks its sockets for 4 KiB at a time: each is a system call, and each lets go of the
interpreter, which a learner in another thread then has first (benchmarks/kafka_intake.py)."""
_NOTHING_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def make_client(kind: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401 (kafka-python has no types)
    """Make a client; one that is not let in leaves neither thread nor socket behind.

    Raises:
        Exception: What kafka-python raises; where brokers refused us, what they said, which the
            client only logs: it tries again until its time is up.
    """
    inner = _WatchedClient(kind.DEFAULT_CONFIG["kafka_client"])
    try:
        client = kind(**options, kafka_client=inner.make)
    except KafkaTimeoutError as error:
        inner.close()
        if inner.last_failure is None:
            raise
        refusal = _refusal(inner.last_failure)
        if refusal is not None:
            raise refusal from error
        # Its own text begins with its name, and so does that of the one that is made of it.
        reason = "".join(map(str, error.args))
        raise KafkaTimeoutError(f"{reason}; at last: {word(inner.last_failure)}") from error
    except BaseException:
        inner.close()
        raise
    return client


class _WatchedClient:
    """What a client talks through, seen from where it makes connections."""

    def __init__(self, kind: Any) -> None:  # noqa: ANN401 (as above)
        self._kind = kind
        self._client: Any = None
        self._known: WeakSet[Any] = WeakSet()
        self.last_failure: Exception | None = None

    def make(self, **configs: object) -> Any:  # noqa: ANN401 (as above)
        self._client = self._kind(**configs)
        manager = self._client._manager  # noqa: SLF001 (public nowhere else)
        connect = manager.get_connection

        def get_connection(*args: object, **options: object) -> Any:  # noqa: ANN401 (as above)
            connection = connect(*args, **options)
            if connection not in self._known:
                self._known.add(connection)
                connection.init_future.add_errback(self._note)
                _receive_all(connection)
            return connection

        manager.get_connection = get_connection
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _note(self, error: Exception) -> None:
        # The attempt that the client's deadline cuts off says less than a refusal before it.
        if _refusal(self.last_failure) is None:
            self.last_failure = error


def _receive_all(connection: Any) -> None:  # noqa: ANN401 (as above)
    """Let a connection take in all that has come, in large pieces, and its end the next time.

    A broker says why it lets nobody in and hangs up at once. kafka-python drops what it has read
    when the end was there as well, and knows only that the connection was lost.
    """
    made = connection.connection_made

    def connection_made(transport: Any) -> None:  # noqa: ANN401 (as above)
        transport._sock_recv = lambda: _receive(transport._sock)  # noqa: SLF001 (as above)
        made(transport)

    connection.connection_made = connection_made


def _receive(socket: Any) -> tuple[bytes, Exception | None]:  # noqa: ANN401 (plain or TLS)
    pieces: list[bytes] = []
    try:
        # Until nothing is left: what TLS has taken off the wire already wakes nobody up.
        while piece := socket.recv(_RECEIVE_BYTES):
            pieces.append(piece)
    except _NOTHING_YET:
        return b"".join(pieces), None
    except OSError as error:
        end: Exception = KafkaConnectionError(error)
    else:
        end = KafkaConnectionError("socket disconnected")
    return b"".join(pieces), None if pieces else end


def _refusal(error: BaseException | None) -> Exception | None:
    """Return what lies behind a failed connection, if trying again does not help."""
    while error is not None:
        if isinstance(error, (*REFUSALS, ssl.SSLCertVerificationError)):
            return error
        error = error.__cause__ or error.__context__
    return None
