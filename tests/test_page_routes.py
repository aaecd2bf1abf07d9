"""The page's files: whole, typed, from nowhere else, and no file but they."""

import asyncio
import re
import tomllib
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from teacherd.daemon.page_routes import HEADERS, page_routes

STATIC = Path(__file__).parents[1] / "daemon" / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg"}


def ask(path: str, method: str = "GET") -> httpx.Response:
    """Return the answer of an application that has these routes."""
    transport = httpx.ASGITransport(Starlette(routes=page_routes(lambda: {"tasks": []})))

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.request(method, path)

    return asyncio.run(answer())


def test_the_page_is_at_the_root() -> None:
    """A person types host and port, nothing else."""
    answer = ask("/")

    assert 200 == answer.status_code
    assert (STATIC / "index.html").read_text() == answer.text
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_every_file_has_its_type_and_the_policy(path: Path) -> None:
    """A browser told not to guess types needs the right one, or loads nothing."""
    answer = ask(f"/static/{path.name}")

    assert path.read_bytes() == answer.content
    assert answer.headers["content-type"].startswith(TYPES[path.suffix])
    for name, value in HEADERS.items():
        assert value == answer.headers[name]


def test_nothing_comes_from_elsewhere() -> None:
    """No address of another host in any file, except the name of SVG's namespace."""
    for path in STATIC.iterdir():
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", path.read_text())

        assert set(found) <= {"http://www.w3.org/2000/svg"}


def test_what_the_page_refers_to_is_there() -> None:
    """Scripts, styles and imports name files of the folder."""
    text = "".join(path.read_text() for path in STATIC.iterdir())
    named = set(re.findall(r'"(?:static/|\./)([\w.]+)"', text))

    assert named
    assert named <= {path.name for path in STATIC.iterdir()}


def test_no_markup_is_made_of_text() -> None:
    """Names and reasons come from strangers: a script of theirs must stay text."""
    for path in STATIC.glob("*.js"):
        assert not re.search(
            r"innerHTML\s*=[^=]|outerHTML\s*=|insertAdjacentHTML|document\.write|"
            r"\beval\(|new Function",
            path.read_text(),
        )


@pytest.mark.parametrize(
    "path", ["/static/../endpoints.py", "/static/%2e%2e%2fendpoints.py", "/static/", "/static/x.js"]
)
def test_no_other_file_is_given_away(path: str) -> None:
    """A path is looked up among the page's files, never on the disk."""
    assert 404 == ask(path).status_code


def test_the_history_is_what_the_daemon_keeps() -> None:
    """The page asks for it by itself."""
    assert {"tasks": []} == ask("/history").json()


def test_nothing_can_be_changed() -> None:
    """The page only looks."""
    assert 405 == ask("/", "POST").status_code
    assert 405 == ask("/static/page.js", "DELETE").status_code


def test_every_file_is_in_the_package() -> None:
    """An installed daemon has them, too: the patterns of package data in pyproject.toml fit all."""
    data = tomllib.loads((STATIC.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = data["tool"]["setuptools"]["package-data"]["teacherd.daemon"]

    for path in STATIC.iterdir():
        assert any(path.relative_to(STATIC.parent).match(pattern) for pattern in patterns)
