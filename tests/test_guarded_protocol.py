"""Clients that never finish: none holds a connection, none fills the memory, all others are served.

Over real sockets, with either of uvicorn's parsers, and with the deadlines of seconds made tenths.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from signing_keys import make_certificate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from teacherd.daemon.guarded_protocol import HEAD_BYTES, _Guard

MAX_REQUEST_BYTES = 100_000
MAX_CONNECTIONS = 400
LIMIT_SECONDS = 120.0
PATIENCE_SECONDS = 3.0
ANSWER = bytes(32 << 20)
"""More than sockets and transport hold."""


async def _get(_: Request) -> Response:
    return PlainTextResponse("here")


async def _post(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _get_large(_: Request) -> Response:
    return Response(ANSWER)


class Server:
    """A guarded server in a thread of its own."""

    def __init__(
        self,
        base: type[asyncio.Protocol],
        certificate: Path | None = None,
        key: Path | None = None,
        *,
        seconds: float = 0.5,
    ) -> None:
        values = {
            "most_bytes": HEAD_BYTES + 2 * MAX_REQUEST_BYTES,
            "head_seconds": seconds,
            "stall_seconds": seconds,
        }
        app = Starlette(
            routes=[
                Route("/", _get),
                Route("/large", _get_large),
                Route("/", _post, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(
            app,
            http=type("Guarded", (_Guard, base), values),
            log_config=None,
            log_level="error",
            lifespan="off",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
            limit_concurrency=MAX_CONNECTIONS,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    @property
    def num_connections(self) -> int:
        """How many it holds."""
        return len(self.server.server_state.connections)

    def url(self, scheme: str = "http") -> str:
        """Return where it answers."""
        return f"{scheme}://127.0.0.1:{self.address[1]}"

    def connect(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(self.address, timeout=LIMIT_SECONDS)

    def close(self) -> None:
        """End it."""
        self.server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(params=[H11Protocol, HttpToolsProtocol], ids=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with each of the parsers."""
    with closing(Server(request.param)) as server:
        yield server


@pytest.fixture(params=[H11Protocol, HttpToolsProtocol], ids=["h11", "httptools"])
def patient(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The same with deadlines that good clients keep, also on a machine that does other things."""
    with closing(Server(request.param, seconds=PATIENCE_SECONDS)) as server:
        yield server


def wait_until_closed(connection: socket.socket, *, drip: bytes = b"") -> None:
    """Wait until the server ends a connection, into which something drips."""
    deadline = time.monotonic() + LIMIT_SECONDS
    connection.settimeout(0.05)
    while True:
        assert time.monotonic() < deadline, "it is not closed"
        try:
            if not connection.recv(1 << 16):
                return
        except TimeoutError:
            with suppress(OSError):
                connection.sendall(drip)
        except OSError:
            return


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what comes soon."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\n"],
    ids=["silent", "in the first line", "in the headers"],
)
def test_a_head_that_never_ends_ends_the_connection(server: Server, begun: bytes) -> None:
    """However regularly another byte comes: a slow loris holds its place for a moment."""
    with server.connect() as connection:
        connection.sendall(begun)
        wait_until_closed(connection, drip=b"a" if begun else b"")

    wait_until(lambda: server.num_connections == 0)


def test_a_second_head_has_its_own_deadline(patient: Server) -> None:
    """A connection that has asked once is no better than another."""
    with patient.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(1 << 16)
        time.sleep(1.1 * PATIENCE_SECONDS)  # longer than a head may take: none has begun
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(1 << 16)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        wait_until_closed(connection, drip=b"a")


def test_many_slow_clients_do_not_keep_others_out_for_long(patient: Server) -> None:
    """As many as one address may, and an ordinary client that is answered all the same."""
    with ExitStack() as opened:
        for _ in range(MAX_CONNECTIONS // 2 - 1):
            slow = opened.enter_context(patient.connect())
            slow.sendall(b"POST / HTTP/1.1\r\n")

        assert 200 == httpx.get(patient.url(), timeout=LIMIT_SECONDS).status_code
        wait_until(lambda: patient.num_connections == 0)


def test_one_address_has_half_of_the_places(patient: Server) -> None:
    """What it opens beyond them is closed at once; another address is still let in."""
    with ExitStack() as opened:
        silent = [opened.enter_context(patient.connect()) for _ in range(MAX_CONNECTIONS)]
        wait_until(lambda: patient.num_connections <= MAX_CONNECTIONS // 2)
        other = socket.create_connection(patient.address, LIMIT_SECONDS, ("127.0.0.2", 0))
        opened.enter_context(other)
        other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert b"200 OK" in other.recv(1 << 16)
        wait_until_closed(silent[-1])


def test_headers_without_end_are_cut_off(server: Server) -> None:
    """After 64 KiB, though they come fast; httptools alone would take a gigabyte."""
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        sent = 0
        with suppress(OSError):
            while sent < 64 << 20:
                sent += connection.send(bytes(1 << 16).replace(b"\0", b"a"))

    assert sent < 16 << 20
    wait_until(lambda: server.num_connections == 0)


def test_trailers_without_end_are_cut_off(server: Server) -> None:
    """What follows a body in pieces belongs to its request, whose size is bounded."""
    with server.connect() as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "
        )
        sent = 0
        with suppress(OSError):
            while sent < 64 << 20:
                sent += connection.send(bytes(1 << 16).replace(b"\0", b"a"))

    assert sent < 16 << 20


def test_a_client_that_does_not_read_is_let_go(patient: Server) -> None:
    """An answer that nobody takes is not kept."""
    with patient.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1)
        wait_until(lambda: patient.num_connections == 0)


def test_a_client_that_reads_slowly_gets_everything(patient: Server) -> None:
    """What moves is no stall, also when it takes longer than a stall may."""
    with patient.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received, started = 0, time.monotonic()
        while part := connection.recv(1 << 16):
            received += len(part)
            if time.monotonic() - started < 1.5 * PATIENCE_SECONDS:
                time.sleep(0.03)

    assert received > len(ANSWER)


def test_ordinary_clients_notice_nothing(patient: Server) -> None:
    """Many requests over one connection, with bodies up to the limit, in one piece or in many."""
    body = bytes(MAX_REQUEST_BYTES)
    with httpx.Client(timeout=LIMIT_SECONDS) as client:
        for _ in range(20):
            assert "here" == client.get(patient.url()).text
            assert str(len(body)) == client.post(patient.url(), content=body).text
        pieces = (body[at : at + 500] for at in range(0, len(body), 500))
        assert str(len(body)) == client.post(patient.url(), content=pieces).text


def test_it_guards_https_as_well(tmp_path: Path) -> None:
    """The deadlines begin with the connection, whatever it is wrapped in."""
    certificate, key = make_certificate(tmp_path)
    server = Server(H11Protocol, certificate, key, seconds=PATIENCE_SECONDS)
    context = ssl.create_default_context(cafile=certificate)
    try:
        assert "here" == httpx.get(server.url("https"), verify=context, timeout=LIMIT_SECONDS).text
        with context.wrap_socket(server.connect(), server_hostname="127.0.0.1") as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            wait_until_closed(connection, drip=b"a")
    finally:
        server.close()
