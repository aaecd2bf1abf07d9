"""Reading from object stores by fsspec: single objects, whole and in parts."""

import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest

from teacherd.models.object_transport import ObjectTransport
from teacherd.models.transport import TransportError


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place in each kind of store that needs no network."""
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/a b"


def put(url: str, name: str, content: bytes) -> None:
    """Write an object as another process would."""
    files, base = fsspec.core.url_to_fs(url)
    files.makedirs(f"{base}/{name}".rpartition("/")[0], exist_ok=True)
    files.pipe_file(f"{base}/{name}", content)


def test_an_object_is_read_and_an_unchanged_one_not_again(url: str) -> None:
    """By its content, as not every store has tags."""
    transport = ObjectTransport(url, options={})
    put(url, "current", b"one")

    assert b"one" == transport.read_if_changed("current", largest_bytes=10)
    assert transport.read_if_changed("current", largest_bytes=10) is None
    assert b"one" == transport.read("current", largest_bytes=10)
    transport.forget("current")
    assert b"one" == transport.read_if_changed("current", largest_bytes=10)
    put(url, "current", b"two")
    assert b"two" == transport.read_if_changed("current", largest_bytes=10)


def test_a_new_object_is_seen_at_once(url: str) -> None:
    """No listing is kept that would hide it."""
    transport = ObjectTransport(url, options={})
    put(url, "other", b"")
    with pytest.raises(TransportError, match="is not there") as raised:
        transport.read("versions/000001/manifest.json", largest_bytes=10)
    put(url, "versions/000001/manifest.json", b"{}")

    assert "missing" == raised.value.reason
    assert b"{}" == transport.read("versions/000001/manifest.json", largest_bytes=10)


def test_a_large_object_comes_in_pieces_from_where_it_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its place."""
    content = bytes(range(256))
    put(url, "w", content)
    monkeypatch.setattr("teacherd.models.object_transport._CHUNK_BYTES", 100)
    transport = ObjectTransport(url, options={})

    pieces = list(transport.stream("w", start=50, end=256))

    assert [50, 150, 250] == [place for place, _ in pieces]
    assert content[50:] == b"".join(chunk for _, chunk in pieces)


def test_an_object_that_is_too_large_is_not_read_whole(url: str) -> None:
    """One byte more than wanted tells."""
    put(url, "current", b"x" * 11)

    with pytest.raises(TransportError) as raised:
        ObjectTransport(url, options={}).read("current", largest_bytes=10)

    assert "size" == raised.value.reason


def test_a_store_that_fails_is_unreachable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its library raises."""
    transport = ObjectTransport(url, options={})

    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("connection reset")

    monkeypatch.setattr(transport._files, "cat_file", fail)
    with pytest.raises(TransportError, match="connection reset") as raised:
        transport.read("current", largest_bytes=10)

    assert "unreachable" == raised.value.reason


def test_a_place_is_told_as_a_url(url: str) -> None:
    """For messages."""
    place = ObjectTransport(url, options={}).place("current")

    assert place.startswith(url[:8])
    assert place.endswith("/current")


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "s3x://a"])
def test_a_kind_that_nobody_knows_is_refused(url: str) -> None:
    """At once, by the name of the argument."""
    with pytest.raises(ValueError, match=f"^root: {url}: cannot be used"):
        ObjectTransport(url, options={})


def test_without_fsspec_the_way_to_it_is_told() -> None:
    """Only who reads from an object store needs it."""
    script = (
        "import sys; import teacherd.models.object_transport as module\n"
        "sys.modules['fsspec'] = None\n"
        "try: module.ObjectTransport('s3://b', options={})\n"
        "except ValueError as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert "pip install 'teacherd[mirrors]'" in done.stdout
