"""POST /v1/commands: what the control socket takes, over HTTP, from who shows the admin token."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from teacherd.daemon.bearer_token import BearerToken
from teacherd.daemon.commands import Answer, Commands, parse_command
from teacherd.daemon.errors import TeacherdError, UsageError

PATH = "/v1/commands"
_LARGEST_BYTES = 4096
_BODY_SECONDS = 5.0
_POLL_SECONDS = 0.05


class CommandsEndpoint:
    """Hands commands to the learning thread, and its answers back.

    Args:
        readiness: Says at each call where the process stands; commands are taken while "ready".
        stop: Set when the process ends: nobody answers any more.
    """

    def __init__(
        self,
        commands: Commands,
        *,
        token: BearerToken,
        readiness: Callable[[], str],
        stop: threading.Event,
    ) -> None:
        self._commands = commands
        self._token = token
        self._readiness = readiness
        self._stop = stop

    def routes(self) -> list[BaseRoute]:
        """Return its one route."""
        return [Route(PATH, self._post, methods=["POST"])]

    async def _post(self, request: Request) -> JSONResponse:
        if not self._token.is_shown(request):
            return self._token.refusal("endpoints.admin_token_file")
        if self._readiness() != "ready":
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, f"it is {self._readiness()}")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                command = parse_command(await _body(request))
        except UsageError as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))
        except (TimeoutError, ClientDisconnect):
            return _refused(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time")
        return await self._wait_for(self._commands.ask(command))

    async def _wait_for(self, asked: Future[Answer]) -> JSONResponse:
        """Look now and then: a client who goes away must not cancel what the learning is doing."""
        while not asked.done():
            if self._stop.is_set():
                return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "it is ending; ask again later")
            await asyncio.sleep(_POLL_SECONDS)
        try:
            return JSONResponse({"answer": asked.result()})
        except TeacherdError as error:
            is_refusal = error.is_refusal
            status = HTTPStatus.CONFLICT if is_refusal else HTTPStatus.INTERNAL_SERVER_ERROR
            return _refused(status, str(error), exit_code=int(error.exit_code))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BYTES:
            raise UsageError(f"the request has more than {_LARGEST_BYTES} bytes")
    return bytes(body)


def _refused(status: HTTPStatus, message: str, **values: Any) -> JSONResponse:  # noqa: ANN401 (any JSON value)
    return JSONResponse(
        {"errors": [{"key": "command", "message": message}], **values}, status_code=status
    )
