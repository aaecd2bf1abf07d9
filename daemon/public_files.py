"""The public folder over HTTP, read-only: what a HotTeacher on another machine fetches.

Only the names that a root has are answered, so that no path leads out of it.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from teacherd.models.artifact import MANIFEST, SIGNATURE, VERSIONS, WEIGHTS
from teacherd.models.current_pointer import CURRENT, LARGEST_POINTER_BYTES
from teacherd.models.plain_file import PlainFileError, read_plain_file

_TYPES = {
    MANIFEST: "application/json",
    WEIGHTS: "application/octet-stream",
    SIGNATURE: "application/octet-stream",
}
_REVALIDATE = "no-cache"


class PublicFiles:
    """Answers GET and HEAD for `current` and the files of versions, with entity tags and ranges."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def routes(self, prefix: str) -> list[BaseRoute]:
        """Return the routes below a path such as /public."""
        return [
            Route(f"{prefix}/{CURRENT}", self._get_current),
            Route(f"{prefix}/{VERSIONS}/{{version}}/{{name}}", self._get_file),
        ]

    def _get_current(self, request: Request) -> Response:
        try:
            content = read_plain_file(self._root / CURRENT, largest_bytes=LARGEST_POINTER_BYTES)
        except PlainFileError:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Cache-Control": _REVALIDATE}
        if _is_known(request, headers):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    def _get_file(self, request: Request) -> Response:
        version, name = request.path_params["version"], request.path_params["name"]
        if not (version.isascii() and version.isdigit() and name in _TYPES):
            return Response(status_code=HTTPStatus.NOT_FOUND)
        path = self._root / VERSIONS / version / name
        try:
            status = path.lstat()
        except OSError:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        if not stat.S_ISREG(status.st_mode):
            return Response(status_code=HTTPStatus.NOT_FOUND)
        # A number comes back with other content only after a restore, which gives it another tag.
        headers = {"ETag": _tag(status), "Cache-Control": _REVALIDATE}
        if _is_known(request, headers):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return FileResponse(path, media_type=_TYPES[name], headers=headers, stat_result=status)


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    """Tell whether the client has what it asks for already."""
    known = request.headers.get("if-none-match")
    return known is not None and headers["ETag"] in {tag.strip() for tag in known.split(",")}


def _tag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'
