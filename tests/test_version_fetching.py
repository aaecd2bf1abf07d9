"""Fetching versions: whole ones only, never backwards, going on where a download broke off."""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from flaky_server import Answer, Asked, FlakyServer, file_answers
from public_server import serve_root
from signing_keys import make_keys
from versions import point, publish

from teacherd.models.artifact import SIGNATURE, ArtifactError, version_folder
from teacherd.models.current_pointer import read_current, served_folder
from teacherd.models.http_transport import HttpTransport
from teacherd.models.object_transport import ObjectTransport
from teacherd.models.signature import SigningKey, TrustedKeys
from teacherd.models.transport import Transport
from teacherd.models.version_fetching import VersionFetcher

Copy = Callable[[], None]


@pytest.fixture(params=["http", "memory", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Transport, Copy]]:
    """A root in each kind of place, and a function that makes it equal to `root`."""
    root = tmp_path / "root"
    root.mkdir()
    if request.param == "http":
        with serve_root(root) as address:
            yield HttpTransport(address), lambda: None
    elif request.param == "file":
        yield ObjectTransport(f"file://{root}", options={}), lambda: None
    else:
        bucket = f"memory://{uuid.uuid4().hex}"
        files, base = fsspec.core.url_to_fs(bucket)
        yield (
            ObjectTransport(bucket, options={}),
            lambda: files.put(f"{root}/", base, recursive=True),
        )


def fetcher(transport: Transport, tmp_path: Path, **settings: object) -> VersionFetcher:
    """A fetcher into `cache`."""
    values = {
        "trusted": None,
        "largest_bytes": 2**30,
        "should_stop": lambda: False,
        **settings,
    }
    return VersionFetcher(transport, tmp_path / "cache", **values)  # type: ignore[arg-type]  # by name


def cached(tmp_path: Path) -> int:
    """The version in the cache, after a look at its weights."""
    cache = tmp_path / "cache"
    pointer = read_current(cache)
    folder = served_folder(cache, pointer)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    digest = hashlib.sha256((folder / "teacher.safetensors").read_bytes()).hexdigest()
    assert manifest["weights_sha256"] == digest
    return pointer.version


def refusal(fetching: VersionFetcher) -> ArtifactError:
    """Why it is not fetched."""
    with pytest.raises(ArtifactError) as raised:
        fetching.fetch()
    return raised.value


def test_the_served_version_comes_in_whole(remote: tuple[Transport, Copy], tmp_path: Path) -> None:
    """The first, then the next; of older ones only the one before stays."""
    transport, copy = remote
    fetching = fetcher(transport, tmp_path)
    seen = []
    for version in (1, 2, 3):
        publish(tmp_path / "root", version)
        copy()
        fetching.fetch()
        fetching.fetch()
        seen.append(cached(tmp_path))

    assert [1, 2, 3] == seen
    cache = tmp_path / "cache"
    assert ["1-000002", "1-000003"] == sorted(path.name for path in (cache / "versions").iterdir())
    assert {"current", "lock", "versions"} == {path.name for path in cache.iterdir()}


def test_nothing_published_yet_is_missing(remote: tuple[Transport, Copy], tmp_path: Path) -> None:
    """And what comes later is fetched."""
    transport, copy = remote
    fetching = fetcher(transport, tmp_path)

    assert "missing" == refusal(fetching).reason

    publish(tmp_path / "root", 1)
    copy()
    fetching.fetch()
    assert 1 == cached(tmp_path)


def test_current_before_its_folder_is_tried_again(
    remote: tuple[Transport, Copy], tmp_path: Path
) -> None:
    """Objects may appear in any order; what was served is served still."""
    transport, copy = remote
    root = tmp_path / "root"
    publish(root, 1)
    copy()
    fetching = fetcher(transport, tmp_path)
    fetching.fetch()
    publish(root, 2)
    version_folder(root, 2).rename(root / "late")
    copy()

    assert "missing" == refusal(fetching).reason
    assert 1 == cached(tmp_path)

    (root / "late").rename(version_folder(root, 2))
    copy()
    fetching.fetch()
    assert 2 == cached(tmp_path)


def test_it_never_goes_back_also_after_a_restart(
    remote: tuple[Transport, Copy], tmp_path: Path
) -> None:
    """An older version, or another one of the same number, is refused; a higher epoch is taken."""
    transport, copy = remote
    root = tmp_path / "root"
    for version in (1, 2):
        publish(root, version)
    copy()
    fetcher(transport, tmp_path).fetch()

    point(root, publish(root / "aside", 1, created_at="2026-01-01T00:00:00+00:00"))
    (root / "aside" / "versions" / "000001").rename(version_folder(root, 1001))
    pointer = json.loads((root / "current").read_bytes())
    point(root, json.dumps({**pointer, "folder": "versions/001001"}).encode())
    copy()
    assert "downgrade" == refusal(fetcher(transport, tmp_path)).reason
    assert 2 == cached(tmp_path)

    publish(root, 0, epoch=2)
    copy()
    fetcher(transport, tmp_path).fetch()
    assert 0 == cached(tmp_path)


def test_another_lineage_is_brought_in(remote: tuple[Transport, Copy], tmp_path: Path) -> None:
    """Whether it may be served is for the loader to say: a restarted one may change over."""
    transport, copy = remote
    publish(tmp_path / "root", 5)
    copy()
    fetching = fetcher(transport, tmp_path)
    fetching.fetch()
    publish(tmp_path / "root", 1, lineage="other")
    copy()

    fetching.fetch()

    assert 1 == cached(tmp_path)


def change(path: Path) -> None:
    """Damage a file without changing its size."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["manifest.json", "teacher.safetensors"])
def test_a_damaged_file_is_refused(
    remote: tuple[Transport, Copy], tmp_path: Path, name: str
) -> None:
    """By its checksum; nothing of it stays."""
    transport, copy = remote
    publish(tmp_path / "root", 1)
    change(version_folder(tmp_path / "root", 1) / name)
    copy()

    assert "checksum" == refusal(fetcher(transport, tmp_path)).reason
    assert ["lock"] == [path.name for path in (tmp_path / "cache").iterdir()]


def test_weights_that_are_too_large_are_not_fetched(
    remote: tuple[Transport, Copy], tmp_path: Path
) -> None:
    """As the manifest announces them."""
    transport, copy = remote
    publish(tmp_path / "root", 1)
    copy()

    assert "size" == refusal(fetcher(transport, tmp_path, largest_bytes=1000)).reason


def test_only_signed_versions_are_fetched_where_a_key_is_given(
    remote: tuple[Transport, Copy], tmp_path: Path
) -> None:
    """The signature comes along, for the loader to check again."""
    transport, copy = remote
    private, public = make_keys(tmp_path)
    key = SigningKey.from_pem(private.read_bytes())
    fetching = fetcher(transport, tmp_path, trusted=TrustedKeys.from_pem(public.read_bytes()))
    publish(tmp_path / "root", 1)
    copy()
    assert "signature" == refusal(fetching).reason

    folder = version_folder(tmp_path / "root", 1)
    (folder / SIGNATURE).write_bytes(key.sign(b"something else"))
    copy()
    assert "signature" == refusal(fetching).reason

    (folder / SIGNATURE).write_bytes(key.sign((folder / "manifest.json").read_bytes()))
    copy()
    fetching.fetch()
    assert (tmp_path / "cache" / "versions" / "1-000001" / SIGNATURE).exists()


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    """In another process too: what is there already is not asked for again."""
    root = tmp_path / "root"
    publish(root, 1)
    data = (version_folder(root, 1) / "teacher.safetensors").read_bytes()
    files = file_answers(root)

    def breaking(asked: Asked) -> Answer:
        if not asked.path.endswith("safetensors"):
            return files(asked)
        begin = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        part = data[begin : begin + len(data) // 3]
        where = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return Answer(
            status=206 if begin else 200,
            body=part,
            announced=len(data) - begin,
            headers={"Content-Range": where} if begin else {},
        )

    with FlakyServer(breaking) as server:
        refused = [refusal(fetcher(HttpTransport(server.url), tmp_path)).reason for _ in range(3)]
        fetcher(HttpTransport(server.url), tmp_path).fetch()
        asked = [each for each in server.asked if each.path.endswith("safetensors")]

    assert ["unreachable"] * 3 == refused
    third = len(data) // 3
    assert [0, third, 2 * third, 3 * third] == [
        int(each.headers.get("range", "bytes=0-")[6:].partition("-")[0]) for each in asked
    ]
    assert 1 == cached(tmp_path)


def test_more_than_was_announced_is_not_written(tmp_path: Path) -> None:
    """A server that sends without end fills no disk."""
    root = tmp_path / "root"
    publish(root, 1)
    files = file_answers(root)

    def endless(asked: Asked) -> Answer:
        answer = files(asked)
        if asked.path.endswith("safetensors"):
            answer.body += b"x" * 10_000_000
        return answer

    with FlakyServer(endless) as server:
        fetcher(HttpTransport(server.url), tmp_path).fetch()

    assert 1 == cached(tmp_path)


def test_bytes_of_another_place_are_refused(tmp_path: Path) -> None:
    """A hole would be filled with nothing."""
    root = tmp_path / "root"
    publish(root, 1)
    files = file_answers(root)
    (tmp_path / "cache").mkdir()
    digest = hashlib.sha256((version_folder(root, 1) / "teacher.safetensors").read_bytes())
    (tmp_path / "cache" / f".partial-{digest.hexdigest()}").write_bytes(b"x" * 10)

    def skipping(asked: Asked) -> Answer:
        if "range" in asked.headers:
            headers = {"Content-Range": "bytes 999999999999-9999999999999/*"}
            return Answer(status=206, body=b"x", headers=headers)
        return files(asked)

    with FlakyServer(skipping) as server:
        error = refusal(fetcher(HttpTransport(server.url), tmp_path))

    assert "unreachable" == error.reason
    assert max(path.stat().st_size for path in (tmp_path / "cache").glob(".partial-*")) == 10


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        json.dumps(
            {"epoch": 1, "version": 1, "folder": "../../outside", "manifest_sha256": "0" * 64}
        ).encode(),
        json.dumps(
            {"epoch": 1, "version": 1, "folder": "/etc", "manifest_sha256": "0" * 64}
        ).encode(),
        b"x" * 100_000,
    ],
)
def test_a_bad_pointer_leads_nowhere(tmp_path: Path, content: bytes) -> None:
    """Nothing is asked for by it, and nothing is written."""
    with FlakyServer(lambda _: Answer(body=content)) as server:
        error = refusal(fetcher(HttpTransport(server.url), tmp_path))

        assert error.reason in {"pointer", "size"}
        assert ["/current"] == [each.path for each in server.asked]
    assert ["lock"] == [path.name for path in (tmp_path / "cache").iterdir()]


def test_the_other_side_chooses_no_path_here(tmp_path: Path) -> None:
    """Whatever folder the pointer names, the cache's is made of two numbers."""
    root = tmp_path / "root"
    publish(root, 7)
    strange = root / "a ; b" / "..c"
    strange.parent.mkdir()
    version_folder(root, 7).rename(strange)
    pointer = json.loads((root / "current").read_bytes())
    point(root, json.dumps({**pointer, "folder": "a ; b/..c"}).encode())

    fetcher(ObjectTransport(f"file://{root}", options={}), tmp_path).fetch()

    assert "versions/1-000007" == read_current(tmp_path / "cache").folder
    assert 7 == cached(tmp_path)


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    """While another one fetches, nothing is done and nothing is wrong."""
    publish(tmp_path / "root", 1)
    fetching = fetcher(ObjectTransport(f"file://{tmp_path}/root", options={}), tmp_path)
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetching.fetch()
        assert not (tmp_path / "cache" / "current").exists()

    fetching.fetch()

    assert 1 == cached(tmp_path)


def test_a_version_found_damaged_is_fetched_anew(tmp_path: Path) -> None:
    """A disk that lost bits, or power that went at the wrong moment."""
    publish(tmp_path / "root", 1)
    fetching = fetcher(ObjectTransport(f"file://{tmp_path}/root", options={}), tmp_path)
    fetching.fetch()
    damaged = tmp_path / "cache" / "versions" / "1-000001" / "teacher.safetensors"
    change(damaged)

    fetching.distrust(damaged)
    fetching.fetch()

    assert 1 == cached(tmp_path)


def test_a_process_that_is_late_does_not_throw_away_what_others_load(tmp_path: Path) -> None:
    """The files of the version it was reading are gone, because two newer ones were fetched."""
    fetching = fetcher(ObjectTransport(f"file://{tmp_path}/root", options={}), tmp_path)
    for version in (1, 2, 3):
        publish(tmp_path / "root", version)
        fetching.fetch()
    gone = tmp_path / "cache" / "versions" / "1-000001" / "teacher.safetensors"

    assert not gone.exists()
    fetching.distrust(gone)
    assert 3 == cached(tmp_path)


def test_a_download_stops_when_told_to_and_goes_on_later(tmp_path: Path) -> None:
    """A process that ends need not wait for a large file."""
    publish(tmp_path / "root", 1)
    transport = ObjectTransport(f"file://{tmp_path}/root", options={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teacherd.models.object_transport._CHUNK_BYTES", 1000)
        error = refusal(fetcher(transport, tmp_path, should_stop=lambda: True))
    kept = [path.stat().st_size for path in (tmp_path / "cache").glob(".partial-*")]

    fetcher(transport, tmp_path).fetch()

    assert "unreachable" == error.reason
    assert [1000] == kept
    assert 1 == cached(tmp_path)


def test_a_cache_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """With the argument that names another."""
    (tmp_path / "cache").write_bytes(b"")
    publish(tmp_path / "root", 1)
    fetching = fetcher(ObjectTransport(f"file://{tmp_path}/root", options={}), tmp_path)

    error = refusal(fetching)

    assert "cache" == error.reason
    assert "name a writable directory as `cache`" in str(error)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the version is fetched once there is room."""
    publish(tmp_path / "root", 1)
    fetching = fetcher(ObjectTransport(f"file://{tmp_path}/root", options={}), tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        error = refusal(fetching)
    fetching.fetch()

    assert ("cache", True) == (error.reason, "No space left" in str(error))
    assert 1 == cached(tmp_path)
