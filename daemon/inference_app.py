"""The HTTP application of an inference server: the protocol's endpoints over one HotTeacher."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from teacherd.daemon.batcher import Batcher, QueueFullError
from teacherd.daemon.open_inference import (
    HEADER_LENGTH,
    Answer,
    InferenceRequest,
    ProtocolError,
    describe_model,
    parse_request,
    render_answer,
)
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.models.artifact import Manifest

_LARGE_BYTES = 2**18
"""Bodies from here on are read and written in another thread, so that health is answered."""
_BODY_SECONDS = 30.0
"""A client that sends more slowly must not keep a place for ever."""
_LARGEST_BODIES = 8
"""So many of the largest may be held at once, by however many clients: they bound the memory."""


class InferenceApp:
    """Answers for one model, whose only version is the served one.

    Args:
        batcher: Makes a batcher, in the event loop.
        manifest: Of the served version; None before the first.
        readiness: Says at each call where the process stands; "ready" answers 200.
        max_request_bytes: Of a body.
        max_request_instances: In one request.
        body_seconds: How long a body may take.
    """

    def __init__(
        self,
        *,
        model_name: str,
        batcher: Callable[[], Batcher],
        manifest: Callable[[], Manifest | None],
        readiness: Callable[[], str],
        max_request_bytes: int,
        max_request_instances: int,
        metrics: ServingMetrics,
        body_seconds: float = _BODY_SECONDS,
    ) -> None:
        self._model_name = model_name
        self._make_batcher = batcher
        self._manifest = manifest
        self._readiness = readiness
        self._max_request_bytes = max_request_bytes
        self._max_request_instances = max_request_instances
        self._metrics = metrics
        self._body_seconds = body_seconds
        self._held_bytes = 0
        self._batcher: Batcher

    def build(self) -> Starlette:
        """Return the application."""
        model = "/v2/models/{model}"
        of_version = f"{model}/versions/{{version}}"
        return Starlette(
            routes=[
                Route(f"{model}/infer", self._infer, methods=["POST"]),
                Route(f"{of_version}/infer", self._infer, methods=["POST"]),
                Route(model, self._get_model),
                Route(of_version, self._get_model),
                Route(f"{model}/ready", self._get_model_ready),
                Route(f"{of_version}/ready", self._get_model_ready),
                Route("/v2", self._get_server),
                Route("/v2/health/live", self._get_live),
                Route("/v2/health/ready", self._get_ready),
                Route("/v2/repository/index", self._get_index, methods=["POST"]),
                Route("/livez", self._get_live),
                Route("/readyz", self._get_ready),
                Route("/metrics", self._get_metrics),
            ],
            exception_handlers={HTTPStatus.NOT_FOUND: _not_found},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._batcher = self._make_batcher()
        self._batcher.start()
        try:
            yield
        finally:
            await self._batcher.close()

    async def _infer(self, request: Request) -> Response:
        try:
            response = await self._answer(request)
        except ProtocolError as error:
            response = _refuse(error.status, str(error))
        except QueueFullError as error:
            response = _refuse(HTTPStatus.TOO_MANY_REQUESTS, str(error))
        except ClientDisconnect:
            response = _refuse(HTTPStatus.BAD_REQUEST, "the client has gone")
        except Exception as error:  # noqa: BLE001 - one request must not end the server
            response = _refuse(HTTPStatus.INTERNAL_SERVER_ERROR, repr(error))
        self._metrics.requests.labels(str(response.status_code)).inc()
        return response

    async def _answer(self, request: Request) -> Response:
        manifest = self._require_model(request)
        async with self._body(request) as body:
            return await self._answer_to(request, body, manifest)

    async def _answer_to(self, request: Request, body: bytes, manifest: Manifest) -> Response:
        started = time.perf_counter()
        length = request.headers.get(HEADER_LENGTH)
        wanted = await _aside(
            len(body) > _LARGE_BYTES, lambda: parse_request(body, length, manifest)
        )
        if len(wanted.inputs) > self._max_request_instances:
            raise ProtocolError(
                f"inputs: {len(wanted.inputs)} instances: at most {self._max_request_instances} "
                "in one request",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        answer = await self._batcher.answer(wanted.inputs)
        self._require_version(request, answer.version)
        is_large = answer.probabilities.nbytes > _LARGE_BYTES
        content, headers = await _aside(is_large, lambda: self._render(answer, wanted))
        self._metrics.request_duration.observe(time.perf_counter() - started)
        return Response(content, headers=headers)

    def _render(self, answer: Answer, wanted: InferenceRequest) -> tuple[bytes, dict[str, str]]:
        return render_answer(answer, wanted, model_name=self._model_name)

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body, and count it among those that are held until the block ends."""
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise ProtocolError(
                f"content-encoding: {encoding}: is not supported; send the request as it is",
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            )
        announced = request.headers.get("content-length", "0")
        self._check_size(int(announced) if announced.isdecimal() else 0)
        parts: list[bytes] = []
        try:
            await self._read(request, parts)
            yield b"".join(parts)
        finally:
            self._held_bytes -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes]) -> None:
        """Read a body into `parts`, as far as it may come."""
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    self._held_bytes += len(part)
                    self._check_size(size)
        except TimeoutError as error:
            raise ProtocolError(
                f"the request did not come within {self._body_seconds:g} s",
                HTTPStatus.REQUEST_TIMEOUT,
            ) from error

    def _check_size(self, size: int) -> None:
        limit = self._max_request_bytes
        if size > limit:
            raise ProtocolError(
                f"the request is larger than {limit} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            )
        if self._held_bytes > _LARGEST_BODIES * limit:
            raise ProtocolError(
                f"requests of {self._held_bytes} bytes are being taken; try again",
                HTTPStatus.TOO_MANY_REQUESTS,
            )

    def _require_model(self, request: Request) -> Manifest:
        """Return the manifest of the model that the path names.

        Raises:
            ProtocolError: There is no such model or version, or none at all yet.
        """
        if request.path_params["model"] != self._model_name:
            raise ProtocolError(
                f"model: {request.path_params['model']!r}: must be {self._model_name!r}",
                HTTPStatus.NOT_FOUND,
            )
        manifest = self._manifest()
        if manifest is None:
            raise ProtocolError("no version is served yet", HTTPStatus.SERVICE_UNAVAILABLE)
        self._require_version(request, manifest.version)
        return manifest

    def _require_version(self, request: Request, served: int) -> None:
        wanted = request.path_params.get("version")
        if wanted is not None and wanted != str(served):
            raise ProtocolError(
                f"version: {wanted!r}: {served} is served; leave the version out to take what is "
                "served, which every answer names",
                HTTPStatus.NOT_FOUND,
            )

    def _get_model(self, request: Request) -> Response:
        try:
            manifest = self._require_model(request)
        except ProtocolError as error:
            return _refuse(error.status, str(error))
        return JSONResponse(describe_model(manifest, model_name=self._model_name))

    def _get_model_ready(self, request: Request) -> Response:
        try:
            self._require_model(request)
        except ProtocolError as error:
            return _refuse(error.status, str(error))
        return self._get_ready(request)

    def _get_server(self, _: Request) -> Response:
        return JSONResponse(
            {
                "name": "teacherd",
                "version": version("teacherd"),
                "extensions": ["binary_tensor_data", "model_repository"],
            }
        )

    def _get_live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    def _get_ready(self, _: Request) -> Response:
        state = self._readiness()
        return JSONResponse({"state": state}, status_code=200 if state == "ready" else 503)

    def _get_index(self, _: Request) -> Response:
        manifest = self._manifest()
        if manifest is None:
            return JSONResponse([])
        row = {"name": self._model_name, "version": str(manifest.version), "state": "READY"}
        return JSONResponse([row])

    def _get_metrics(self, _: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _aside(is_large: bool, work: Callable[[], Any]) -> Any:  # noqa: ANN401, FBT001 (whatever the work returns)
    """Do small work here and large work in another thread."""
    return await asyncio.to_thread(work) if is_large else work()


async def _not_found(request: Request, _: Exception) -> Response:
    return _refuse(HTTPStatus.NOT_FOUND, f"there is no {request.url.path} here")


def _refuse(status: HTTPStatus, message: str) -> Response:
    headers = {"content-type": "application/json"}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["retry-after"] = "1"
    return Response(json.dumps({"error": message}), status_code=status, headers=headers)
