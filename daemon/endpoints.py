"""HTTP endpoints: metrics, liveness, readiness, status. They read snapshots and change nothing.

What else is answered, such as versions or POST of instances, comes in as routes.
"""

import errno
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from teacherd.daemon.bearer_token import read_token_file
from teacherd.daemon.errors import ConfigurationError, Problem, TemporaryError
from teacherd.daemon.guarded_protocol import guarded_protocol
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.rate_limit import RateLimit
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView

_BACKLOG = 128
_MAX_CONNECTIONS = 256
"""Further ones are answered 503: open files are needed for learning too."""
_READY = ("ready", "standby")
"""A standby does what it is there for; else no rolling restart would ever get past it."""
_TEMPORARY_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointsConfig:
    """Where the daemon answers HTTP."""

    host: str = "127.0.0.1"
    """Address to bind; loopback, because nothing here asks who is calling."""
    port: int = 9464
    """TCP port to bind; 0 takes a free one, which the log and /status name."""
    liveness_seconds: float = 120.0
    """A loop that has not turned for so long counts as dead; above the longest training step."""
    serve_versions: bool = False
    """Whether /public answers with the versions, for HotTeacher("http://..."); off, because who can
    reach the port can then copy the network."""
    certificate_file: str | None = None
    """PEM file of the certificate (chain) for HTTPS; null answers plain HTTP."""
    key_file: str | None = None
    """PEM file of the certificate's private key; null where the certificate's file holds it."""
    accept_instances: bool = False
    """Whether POST /v1/instances appends to the stream; off, because who can reach the port can
    then teach the teacher."""
    token: str | None = None
    """What clients of POST must show; better in token_file or TEACHERD_ENDPOINTS__TOKEN. Null lets
    in whoever reaches the port, and is for loopback only."""
    token_file: str | None = None
    """File that holds it, in its first line."""
    max_request_bytes: int = 16 << 20
    """Longest body of a POST; eight are taken at once."""
    max_requests_per_second: float = 500.0
    """Answered over all clients, besides /livez, /readyz and /metrics; the others get 429."""
    admin_token_file: str | None = None
    """File whose first line who asks for POST /v1/commands must show: promote, rollback, retry.
    Null takes none over HTTP, only through the socket in the state directory."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:  # noqa: PLR2004 (the range of TCP ports)
            raise ValueError(f"port: {self.port}: must be from 0 to 65535; take 9464")
        if self.liveness_seconds <= 0:
            raise ValueError(
                f"liveness_seconds: {self.liveness_seconds}: must be above 0; take 120"
            )
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError(f"key_file: {self.key_file}: needs certificate_file beside it")
        if self.max_request_bytes < 1:
            raise ValueError(
                f"max_request_bytes: {self.max_request_bytes}: must be above 0; take 16777216"
            )
        if self.max_requests_per_second <= 0:
            raise ValueError(
                f"max_requests_per_second: {self.max_requests_per_second}: must be above 0; take "
                "500"
            )
        self._check_token()
        self._check_admin_token()

    def _check_token(self) -> None:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token: is set beside token_file; remove one of them")
        if self.token is not None and not self.token.strip():
            raise ValueError("token: '': must not be empty; take a long random one")
        has_token = self.token is not None or self.token_file is not None
        if self.accept_instances and not has_token and not _is_loopback(self.host):
            raise ValueError(
                f"token_file: null: must be set where accept_instances answers beyond loopback, on "
                f"{self.host}; name a file with a long random token, or bind 127.0.0.1"
            )

    def _check_admin_token(self) -> None:
        if self.admin_token_file is None:
            return
        if self.certificate_file is None and not _is_loopback(self.host):
            raise ValueError(
                f"admin_token_file: {self.admin_token_file}: goes over the network in the clear, "
                f"to {self.host}; set certificate_file beside it, or bind 127.0.0.1"
            )
        if self.admin_token_file == self.token_file:
            raise ValueError(
                f"admin_token_file: {self.admin_token_file}: is token_file, too; take another, so "
                "that who may post may not decide"
            )

    @property
    def scheme(self) -> str:
        """How its addresses begin."""
        return "http" if self.certificate_file is None else "https"


def read_token(config: EndpointsConfig) -> str | None:
    """Return what clients of POST must show, None for nothing.

    Raises:
        ConfigurationError: Its file cannot be read, or holds none.
    """
    if config.token_file is None:
        return config.token and config.token.strip()
    return read_token_file(config.token_file, key="endpoints.token_file")


def read_admin_token(config: EndpointsConfig) -> str | None:
    """Return what who commands must show, None where nobody may.

    Raises:
        ConfigurationError: Its file cannot be read, or holds none.
    """
    if config.admin_token_file is None:
        return None
    return read_token_file(config.admin_token_file, key="endpoints.admin_token_file")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Endpoints:
    """Serves from a thread of its own, from construction until `close`.

    Args:
        readiness: Says at each call where the process stands; "ready" and "standby" answer 200.

    Raises:
        TemporaryError: The port is in use, or the address is not up yet.
        ConfigurationError: There is no such address, or the port is not for this user.
    """

    def __init__(
        self,
        config: EndpointsConfig,
        *,
        metrics: Metrics,
        board: StatusBoard,
        readiness: Callable[[], str],
        view: StatusView,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._board = board
        self._readiness = readiness
        self._view = view
        self._routes = routes
        server_config = uvicorn.Config(
            self._application(),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            limit_concurrency=_MAX_CONNECTIONS,
            http=guarded_protocol(max_request_bytes=config.max_request_bytes),
            ssl_certfile=config.certificate_file,
            ssl_keyfile=config.key_file,
        )
        load_tls(server_config, "endpoints")
        self._socket = bind(config)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(server_config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="endpoints"
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/metrics", self._get_metrics),
                Route("/livez", self._get_livez),
                Route("/readyz", self._get_readyz),
                Route("/status", self._get_status),
                *self._routes,
            ],
            middleware=[
                Middleware(
                    RateLimit,
                    per_second=self._config.max_requests_per_second,
                    monotonic=time.monotonic,
                )
            ],
        )

    def _get_metrics(self, _: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    def _get_livez(self, _: Request) -> JSONResponse:
        limit = self._config.liveness_seconds
        is_live = self._board.is_live(limit_seconds=limit)
        beats = self._board.seconds_since_beat()
        body = {"live": is_live, "seconds_since_beat": beats, "limit_seconds": limit}
        return JSONResponse(body, status_code=200 if is_live else 503)

    def _get_readyz(self, _: Request) -> JSONResponse:
        state = self._readiness()
        return JSONResponse({"state": state}, status_code=200 if state in _READY else 503)

    def _get_status(self, _: Request) -> JSONResponse:
        return JSONResponse(self._view.take())


def load_tls(config: uvicorn.Config, section: str) -> None:
    """Read certificate and key now, so that what is wrong with them is told at the start.

    Raises:
        ConfigurationError: They cannot be read, or are no pair.
    """
    try:
        config.load()
    except (OSError, ValueError) as error:
        message = (
            f"{config.ssl_certfile}: cannot be used with its key: {error}; give PEM files of a "
            "certificate and its key"
        )
        raise ConfigurationError([Problem(f"{section}.certificate_file", message)]) from error


class Address(Protocol):
    """Where a server is to be found."""

    @property
    def host(self) -> str:
        """Name or number of an address of this machine."""

    @property
    def port(self) -> int:
        """TCP port; 0 takes a free one."""


def bind(config: Address, *, section: str = "endpoints") -> socket.socket:
    """Take the configured port; from now on no other process can.

    Raises:
        TemporaryError: It is in use, or the address is not up yet.
        ConfigurationError: There is no such address, or the port is not for this user.
    """
    try:
        return _listen(config.host, config.port)
    except OSError as error:
        message = f"{config.host}:{config.port} cannot be bound: {error.strerror}"
        if error.errno in _TEMPORARY_ERRORS:
            raise TemporaryError(
                f"{section}.port: {message}; stop what uses it, set another port, or 0 for a free "
                "one"
            ) from error
        raise ConfigurationError(
            [Problem(f"{section}.host", f"{message}; name an address and port of this machine")]
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # Only listening makes it ours: SO_REUSEADDR lets two sockets bind that do not listen yet.
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
