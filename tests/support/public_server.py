"""Serves a root over real HTTP as the daemon does, on a port that can be closed and taken again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port

from teacherd.daemon.endpoints import Endpoints, EndpointsConfig
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.public_files import PublicFiles
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView


@contextmanager
def serve_root(root: Path, **settings: object) -> Iterator[str]:
    """Serve until the end of the block, and nobody else there; yields the address of the root."""
    config = EndpointsConfig(**{"port": free_port(), **settings})  # type: ignore[arg-type]  # given by name
    board = StatusBoard(monotonic=lambda: 0.0)
    view = StatusView(board=board, readiness=lambda: "ready", liveness_seconds=60, now=lambda: 0.0)
    endpoints = Endpoints(
        config,
        metrics=Metrics(),
        board=board,
        readiness=lambda: "ready",
        view=view,
        routes=PublicFiles(root).routes("/public"),
    )
    try:
        yield f"{config.scheme}://127.0.0.1:{endpoints.port}/public"
    finally:
        endpoints.close()
