"""HotTeacher over a network: the served version follows the other side and outlives it."""

import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from public_server import serve_root
from signing_keys import make_keys
from versions import Paired, publish

from teacherd.models.artifact import SIGNATURE, ArtifactError, version_folder
from teacherd.models.hot_teacher import HotTeacher, NoTeacherError
from teacherd.models.remote_root import RemoteRoot, is_remote
from teacherd.models.signature import SigningKey

BATCH = np.ones((2, 4), dtype=np.float32)


def teacher_of(url: str, tmp_path: Path, **arguments: object) -> HotTeacher:
    """A HotTeacher that looks when it is told to."""
    return HotTeacher(
        url,
        **{  # type: ignore[arg-type]  # given by name
            "cache": tmp_path / "cache",
            "network": Paired,
            "poll_seconds": 3600.0,
            **arguments,
        },
    )


def test_it_follows_a_daemon_over_http(tmp_path: Path) -> None:
    """The next version comes in; looks without news do nothing."""
    publish(tmp_path / "root", 1)
    with serve_root(tmp_path / "root") as address, teacher_of(address, tmp_path) as teacher:
        first = teacher.predict(BATCH).version
        quiet = teacher.refresh()
        publish(tmp_path / "root", 2)
        news = teacher.refresh()

        assert (1, False, True, 2) == (first, quiet, news, teacher.predict(BATCH).version)
        assert {} == dict(teacher.stats.failures)


def test_it_follows_an_object_store(tmp_path: Path) -> None:
    """Written by another process, object by object."""
    bucket = f"memory://{uuid.uuid4().hex}"
    files, base = fsspec.core.url_to_fs(bucket)
    publish(tmp_path / "root", 1)
    files.put(f"{tmp_path}/root/", base, recursive=True)
    with teacher_of(bucket, tmp_path) as teacher:
        first = teacher.version
        publish(tmp_path / "root", 2)
        files.put(f"{tmp_path}/root/", base, recursive=True)

        assert (1, True, 2) == (first, teacher.refresh(), teacher.version)


def test_it_finds_new_versions_by_itself(tmp_path: Path) -> None:
    """Its thread asks again and again."""
    publish(tmp_path / "root", 1)
    with (
        serve_root(tmp_path / "root") as address,
        teacher_of(address, tmp_path, poll_seconds=0.02) as teacher,
    ):
        publish(tmp_path / "root", 2)
        deadline = time.monotonic() + 300
        while teacher.version != 2:
            assert time.monotonic() < deadline, teacher.stats
            time.sleep(0.01)


def test_a_daemon_that_is_away_fails_no_prediction(tmp_path: Path) -> None:
    """Its absence is counted; when it is back, what it has published meanwhile comes in."""
    publish(tmp_path / "root", 1)
    clock = [0.0]
    with serve_root(tmp_path / "root") as address:
        port = int(address.rpartition(":")[2].partition("/")[0])
        teacher = teacher_of(address, tmp_path, poll_seconds=1.0, monotonic=lambda: clock[0])
        assert teacher.refresh()
    publish(tmp_path / "root", 2)

    looks = [teacher.refresh()]
    away = (teacher.predict(BATCH).version, dict(teacher.stats.failures))
    with serve_root(tmp_path / "root", port=port):
        looks.append(teacher.refresh())
        clock[0] = 2.0
        looks.append(teacher.refresh())

    assert (1, {"unreachable": 1}) == away
    assert [False, False, True] == looks
    assert 2 == teacher.predict(BATCH).version
    teacher.close()


def test_a_start_without_the_daemon_serves_what_is_in_the_cache(tmp_path: Path) -> None:
    """An inference process may restart while the daemon is down."""
    publish(tmp_path / "root", 1)
    with serve_root(tmp_path / "root") as address, teacher_of(address, tmp_path):
        pass

    with teacher_of(address, tmp_path) as teacher:
        assert (1, {"unreachable": 1}) == (teacher.version, dict(teacher.stats.failures))


def test_without_a_cache_a_start_says_who_does_not_answer(tmp_path: Path) -> None:
    """Not that the empty cache is empty."""
    with serve_root(tmp_path / "root") as address:
        pass

    with pytest.raises(NoTeacherError, match=f"{address}/current: does not answer"):
        teacher_of(address, tmp_path).start(timeout_seconds=0)


def test_a_restarted_loader_is_not_rolled_back(tmp_path: Path) -> None:
    """The cache remembers the newest version, also against signed older ones."""
    private, public = make_keys(tmp_path)
    key = SigningKey.from_pem(private.read_bytes())
    root = tmp_path / "root"
    for version in (1, 2):
        publish(root, version)
        folder = version_folder(root, version)
        (folder / SIGNATURE).write_bytes(key.sign((folder / "manifest.json").read_bytes()))
        if version == 1:
            shutil.copy(root / "current", tmp_path / "old")
    with serve_root(root) as address:
        with teacher_of(address, tmp_path, public_key=public) as teacher:
            assert 2 == teacher.version
        shutil.copy(tmp_path / "old", root / "current")

        with teacher_of(address, tmp_path, public_key=public) as teacher:
            assert (2, {"downgrade": 1}) == (teacher.version, dict(teacher.stats.failures))


def test_a_damaged_cache_is_mended(tmp_path: Path) -> None:
    """It is refused by its checksum, fetched anew and served."""
    publish(tmp_path / "root", 1)
    with serve_root(tmp_path / "root") as address:
        with teacher_of(address, tmp_path):
            pass
        weights = next((tmp_path / "cache" / "versions").rglob("*.safetensors"))
        weights.write_bytes(b"x" * weights.stat().st_size)
        teacher = teacher_of(address, tmp_path)

        looks = [teacher.refresh(), teacher.refresh()]

        assert [False, True] == looks
        assert (1, {"checksum": 1}) == (teacher.version, dict(teacher.stats.failures))
        teacher.close()


class Fetching:
    """A fetcher that fails on demand."""

    def __init__(self) -> None:
        self.is_well = True
        self.count = 0
        self.num_distrusted = 0

    def fetch(self) -> None:
        """Fetch, or not."""
        self.count += 1
        if not self.is_well:
            raise ArtifactError("there", "unreachable", "away")

    def distrust(self, _damaged: object) -> None:
        """Note it."""
        self.num_distrusted += 1


def remote_root(fetching: Fetching, clock: Callable[[], float], jitter: float) -> RemoteRoot:
    """A remote root with everything given."""
    return RemoteRoot(
        fetching,  # type: ignore[arg-type]  # has what is used
        Path("cache"),
        poll_seconds=8.0,
        monotonic=clock,
        jitter=lambda: jitter,
    )


def test_failures_are_tried_again_at_growing_intervals() -> None:
    """After 8, 16, 32 seconds, and never less often than each minute; success begins anew."""
    clock = [0.0]
    fetching = Fetching()
    root = remote_root(fetching, lambda: clock[0], 0.5)
    fetching.is_well = False
    tried_at = []
    for second in range(200):
        clock[0] = float(second)
        before = fetching.count
        try:
            root.update()
        except ArtifactError:
            tried_at.append(second)
        assert fetching.count - before <= 1

    assert [0, 8, 24, 56, 116, 176] == tried_at

    fetching.is_well = True
    clock[0] = 300.0
    root.update()
    fetching.is_well = False
    with pytest.raises(ArtifactError):
        root.update()
    clock[0] = 308.0
    with pytest.raises(ArtifactError):
        root.update()


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 6.0), (0.5, 8.0), (1.0, 10.0)])
def test_a_thousand_loaders_do_not_ask_at_once(jitter: float, seconds: float) -> None:
    """Each waits a quarter less or more."""
    assert seconds == remote_root(Fetching(), lambda: 0.0, jitter).next_wait()


@pytest.mark.parametrize(
    ("reason", "count"), [("checksum", 1), ("missing", 1), ("nonfinite", 0), ("downgrade", 0)]
)
def test_only_what_is_damaged_is_thrown_away(reason: str, count: int) -> None:
    """What is wrong at the other side too would be fetched again and again."""
    fetching = Fetching()
    remote_root(fetching, lambda: 0.0, 0.5).note_refusal(ArtifactError("there", reason, "it is"))

    assert count == fetching.num_distrusted


@pytest.mark.parametrize(
    ("root", "expected"),
    [("http://a/b", True), ("s3://b", True), ("state/public", False), (Path("http:"), False)],
)
def test_a_root_with_a_scheme_is_remote(root: Path | str, expected: bool) -> None:
    """A path is a path."""
    assert expected == is_remote(root)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://127.0.0.1:1", {"surprise": 1}, "options: .*surprise"),
        ("https://127.0.0.1:1", {"ca_file": "nowhere.pem"}, "options: .*ca_file"),
        ("nosuch://b", {}, "root: nosuch://b"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tmp_path: Path, url: str, options: dict[str, object], message: str
) -> None:
    """When it is made, not when it is asked."""
    with pytest.raises(ValueError, match=f"^{message}"):
        HotTeacher(url, cache=tmp_path, options=options)
