"""What the inference server holds of clients that send slowly, or much, or both."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from versions import publish

from teacherd.daemon.batcher import Batcher
from teacherd.daemon.inference_app import InferenceApp
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.models.artifact import read_manifest, version_folder

MAX_REQUEST_BYTES = 1000
PIECE = b"x" * 500


def no_batcher() -> Batcher:
    """Nothing here comes so far."""
    raise AssertionError


def make_app(tmp_path: Path, *, body_seconds: float) -> Starlette:
    """Return the application over a version that is there."""
    publish(tmp_path, 1)
    manifest = read_manifest(version_folder(tmp_path, 1))
    return InferenceApp(
        model_name="teacher",
        batcher=no_batcher,
        manifest=lambda: manifest,
        readiness=lambda: "ready",
        max_request_bytes=MAX_REQUEST_BYTES,
        max_request_instances=10,
        metrics=ServingMetrics(),
        body_seconds=body_seconds,
    ).build()


async def ask(app: Starlette, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> int:
    """Return the status code of a request whose body is what is received."""
    statuses: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v2/models/teacher/infer",
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    return statuses[0]


def test_a_body_that_drips_is_not_waited_for(tmp_path: Path) -> None:
    """408, however regularly another byte comes; what it held is given back."""
    app = make_app(tmp_path, body_seconds=0.2)

    async def drip() -> MutableMapping[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def again_and_again() -> list[int]:
        return [await ask(app, drip) for _ in range(3)]

    assert [408] * 3 == asyncio.run(again_and_again())


def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    """Eight of the largest may be held; whoever comes then is told to come again."""
    app = make_app(tmp_path, body_seconds=600)

    async def together() -> tuple[list[int], list[int]]:
        may_end = asyncio.Event()
        held = asyncio.Semaphore(0)

        def half_a_body() -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
            pieces = [PIECE, PIECE]

            async def receive() -> MutableMapping[str, Any]:
                if pieces:
                    return {"type": "http.request", "body": pieces.pop(), "more_body": True}
                held.release()
                await may_end.wait()
                return {"type": "http.request", "body": b"", "more_body": False}

            return receive

        first = [asyncio.create_task(ask(app, half_a_body())) for _ in range(8)]
        for _ in first:
            await held.acquire()
        refused = [await ask(app, half_a_body()) for _ in range(3)]
        may_end.set()
        # They are no requests, but they were read.
        return refused, await asyncio.gather(*first)

    assert ([429] * 3, [400] * 8) == asyncio.run(together())
