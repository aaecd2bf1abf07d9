"""The page at `/`: static files of the package and the history that its plots show.

No build step and nothing from elsewhere: all that the page may load is this daemon's own, which a
strict Content-Security-Policy holds browsers to.
"""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_INDEX = "index.html"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # After an upgrade the browser must not mix old files with new ones.
    "Cache-Control": "no-cache",
}


def page_routes(history: Callable[[], Mapping[str, Any]]) -> list[BaseRoute]:
    """Return the routes of the page.

    Args:
        history: Gives what /history answers; JSON values only.
    """
    contents = _read_files()

    def get_file(request: Request) -> Response:
        name = request.path_params.get("name", _INDEX)
        if name not in contents:
            return Response("no such file\n", status_code=404, media_type="text/plain")
        media_type = _TYPES[name.rpartition(".")[2]]
        return Response(contents[name], media_type=media_type, headers=HEADERS)

    def get_history(_: Request) -> JSONResponse:
        return JSONResponse(history())

    return [
        Route("/", get_file),
        Route("/static/{name}", get_file),
        Route("/history", get_history),
    ]


def _read_files() -> dict[str, bytes]:
    """Read every file of the page once: a few kilobytes, and no path is ever made of a request."""
    folder = files("teacherd.daemon").joinpath("static")
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
