"""POST /v1/instances: labelled instances into the stream, acknowledged once they are durable.

Bodies are read by the endpoints' loop, in bounds; one thread of its own appends, because it waits
for the disk or the brokers.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from teacherd.consumers.appender import Appender
from teacherd.consumers.decoding import DecodingConfig
from teacherd.consumers.source import SourceError
from teacherd.daemon.bearer_token import BearerToken
from teacherd.daemon.errors import Problem, TeacherdError
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.posted_instances import RefusedPostError, read_posted

PATH = "/v1/instances"
_MAX_REQUESTS = 8
"""At once; together with the largest request they bound the memory."""
_BODY_SECONDS = 30.0
"""A client that sends more slowly must not keep a place for ever."""
_RETRY_SECONDS = "1"


class _TooLargeError(Exception):
    """The body is longer than a request may be."""


class InstancesEndpoint:
    """Answers POST from construction until `close`.

    Args:
        open_appender: Called in the thread that then owns it, at the first request and after a
            failure.
        token: What a client must show; None lets everyone in who reaches the address.
        limits: Of records; what the decoder would refuse by its size is refused at once.
        body_seconds: How long a body may take.
    """

    def __init__(
        self,
        *,
        open_appender: Callable[[], Appender],
        token: BearerToken | None,
        max_request_bytes: int,
        limits: DecodingConfig,
        metrics: Metrics,
        body_seconds: float = _BODY_SECONDS,
    ) -> None:
        self._open_appender = open_appender
        self._token = token
        self._max_request_bytes = max_request_bytes
        self._limits = limits
        self._metrics = metrics
        self._body_seconds = body_seconds
        self._num_requests = 0
        self._appender: Appender | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="appending")

    def routes(self) -> list[BaseRoute]:
        """Return its one route."""
        return [Route(PATH, self._post, methods=["POST"])]

    def close(self) -> Future[None]:
        """End behind what is being appended; what is returned is done when that is durable."""
        ended = self._thread.submit(self._close_appender)
        self._thread.shutdown(wait=False)
        return ended

    async def _post(self, request: Request) -> JSONResponse:
        answer = self._refuse_stranger(request)
        if answer is None and self._num_requests >= _MAX_REQUESTS:
            answer = _unavailable(f"{_MAX_REQUESTS} requests are being taken; try again")
        if answer is None:
            self._num_requests += 1
            try:
                answer = await self._take(request)
            finally:
                self._num_requests -= 1
        self._metrics.post_requests.labels(answer.status_code).inc()
        return answer

    def _refuse_stranger(self, request: Request) -> JSONResponse | None:
        if self._token is None:
            if "origin" in request.headers:
                # A page in somebody's browser can reach a loopback address too.
                return _refused(HTTPStatus.FORBIDDEN, "origin", "browsers need endpoints.token")
            return None
        return None if self._token.is_shown(request) else self._token.refusal("endpoints.token")

    async def _take(self, request: Request) -> JSONResponse:
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await self._body(request)
        except _TooLargeError:
            rule = f"must have at most endpoints.max_request_bytes, {self._max_request_bytes}"
            message = f"{rule}; send fewer instances at a time"
            return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body", message)
        except TimeoutError:
            message = f"must come within {self._body_seconds:g} s; send fewer instances at a time"
            return _refused(HTTPStatus.REQUEST_TIMEOUT, "body", message)
        except ClientDisconnect:
            return _refused(HTTPStatus.BAD_REQUEST, "body", "ended early; send it again")
        content_type = request.headers.get("content-type", "")
        append = self._thread.submit(self._append, body, content_type, dict(request.query_params))
        try:
            num_appended = await asyncio.wrap_future(append)
        except RefusedPostError as error:
            return _errors(HTTPStatus.BAD_REQUEST, error.problems)
        except (SourceError, TeacherdError) as error:
            return _unavailable(str(error))
        return JSONResponse({"appended": num_appended})

    async def _body(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_request_bytes:
            raise _TooLargeError
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._max_request_bytes:
                raise _TooLargeError
        return bytes(body)

    def _append(self, body: bytes, content_type: str, query: dict[str, str]) -> int:
        """Read and append, in the thread that owns the appender."""
        records = read_posted(body, content_type, query, self._limits)
        if self._appender is None:
            self._appender = self._open_appender()
        try:
            self._appender.append(records)
        except SourceError:
            self._close_appender()
            raise
        except ValueError as error:
            raise RefusedPostError([Problem("instances", str(error))]) from error
        self._metrics.instances_posted.inc(len(records))
        return len(records)

    def _close_appender(self) -> None:
        appender, self._appender = self._appender, None
        if appender is not None:
            with suppress(SourceError):
                appender.close()


def _refused(status: HTTPStatus, key: str, message: str) -> JSONResponse:
    return _errors(status, [Problem(key, message)])


def _unavailable(message: str) -> JSONResponse:
    answer = _refused(HTTPStatus.SERVICE_UNAVAILABLE, "stream", message)
    answer.headers["Retry-After"] = _RETRY_SECONDS
    return answer


def _errors(status: HTTPStatus, problems: Iterable[Problem]) -> JSONResponse:
    errors = [{"key": each.key, "message": each.message} for each in problems]
    return JSONResponse({"errors": errors}, status_code=status)
