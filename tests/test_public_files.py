"""The public folder over HTTP: files whole and in part, unchanged ones not again, nothing else."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path

import pytest
from public_server import serve_root
from versions import publish

from teacherd.models.artifact import version_folder


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a root with one version."""
    publish(tmp_path / "public", 3)
    with serve_root(tmp_path / "public") as address:
        yield address


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, HTTPMessage]:
    """Return status code, body and headers."""
    request = urllib.request.Request(  # noqa: S310 (http)
        url,
        method=method,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (as above)
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


NAMES = ["current", "versions/000003/manifest.json", "versions/000003/teacher.safetensors"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_comes_whole_and_not_again(address: str, tmp_path: Path, name: str) -> None:
    """With an entity tag, by which an unchanged file is 304 and has no body."""
    content = (tmp_path / "public" / name).read_bytes()

    code, body, headers = get(f"{address}/{name}")
    again = get(f"{address}/{name}", If_None_Match=headers["ETag"])
    other = get(f"{address}/{name}", If_None_Match='"other"')
    head = get(f"{address}/{name}", "HEAD")

    assert (200, content) == (code, body)
    assert (304, b"") == again[:2]
    assert (200, content) == other[:2]
    assert (200, b"", str(len(content))) == (*head[:2], head[2]["Content-Length"])


def test_a_moved_current_has_another_tag(address: str, tmp_path: Path) -> None:
    """Its tag is its content's, so that two moves within one tick of a clock are told apart."""
    before = get(f"{address}/current")[2]["ETag"]
    publish(tmp_path / "public", 4)

    code, body, headers = get(f"{address}/current", If_None_Match=before)

    assert 200 == code
    assert f'"{hashlib.sha256(body).hexdigest()}"' == headers["ETag"] != before


def test_weights_come_in_parts(address: str, tmp_path: Path) -> None:
    """A download that broke off goes on, unless the file is another one meanwhile."""
    name = NAMES[2]
    content = (tmp_path / "public" / name).read_bytes()
    tag = get(f"{address}/{name}", "HEAD")[2]["ETag"]

    part = get(f"{address}/{name}", Range="bytes=1000-")
    same = get(f"{address}/{name}", Range="bytes=1000-", If_Range=tag)
    changed = get(f"{address}/{name}", Range="bytes=1000-", If_Range='"other"')
    beyond = get(f"{address}/{name}", Range=f"bytes={len(content)}-")

    assert (206, content[1000:]) == part[:2] == same[:2]
    assert f"bytes 1000-{len(content) - 1}/{len(content)}" == part[2]["Content-Range"]
    assert (200, content) == changed[:2]
    assert 416 == beyond[0]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/versions",
        "/versions/000003",
        "/versions/000003/",
        "/versions/000004/manifest.json",
        "/versions/000003/other.json",
        "/versions/../secret",
        "/versions/..%2fsecret/manifest.json",
        "/versions/%2e%2e/manifest.json",
        "/versions/%00/manifest.json",
        "/../secret",
        "/%2e%2e/secret",
        "/current/../../secret",
        "/.tmp-current",
        "/versions/folder/manifest.json",
    ],
)
def test_nothing_else_is_answered(address: str, tmp_path: Path, path: str) -> None:
    """Neither files beside the root nor folders nor temporary ones."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "public" / ".tmp-current").write_text("secret")
    (tmp_path / "public" / "versions" / "folder").mkdir()
    (tmp_path / "public" / "versions" / "folder" / "manifest.json").write_text("secret")

    code, body, _ = get(f"{address}{path}")

    assert 404 == code
    assert b"secret" not in body


def test_links_are_not_followed(address: str, tmp_path: Path) -> None:
    """A link in the root leads nobody out of it."""
    folder = version_folder(tmp_path / "public", 3)
    (tmp_path / "secret").write_text("secret")
    for path in (folder / "manifest.sig", tmp_path / "public" / "current"):
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "secret")

    assert 404 == get(f"{address}/versions/000003/manifest.sig")[0]
    assert 404 == get(f"{address}/current")[0]


def test_nothing_can_be_changed(address: str) -> None:
    """Read-only."""
    for name in NAMES:
        for method in ("POST", "PUT", "DELETE"):
            assert 405 == get(f"{address}/{name}", method)[0]
