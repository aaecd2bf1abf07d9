"""Mirrors: they end up holding what the root holds, whatever fails, and overwrite nobody's."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from faulty_store import FaultyStore, new_bucket
from signing_keys import make_keys
from versions import Paired, point, publish

from teacherd.daemon.errors import ConfigurationError
from teacherd.daemon.mirror import Mirror, MirrorConfig, MirrorError
from teacherd.daemon.signing import ensure_signed, load_signing_key
from teacherd.models.artifact import SIGNATURE, read_manifest, version_folder
from teacherd.models.hot_teacher import HotTeacher

BATCH = np.ones((1, 4), dtype=np.float32)


@pytest.fixture(params=["store", "share"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place in an object store, and in a directory."""
    return new_bucket() if request.param == "store" else f"file://{tmp_path}/share/teachers"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with versions 1 and 2."""
    for version in (1, 2):
        publish(tmp_path / "root", version)
    return tmp_path / "root"


def mirror(url: str, root: Path) -> Mirror:
    """A mirror as a process that has just started opens it."""
    return Mirror("m", MirrorConfig(url=url), root)


def files(url: str) -> dict[str, bytes]:
    """Everything that lies there."""
    store, base = fsspec.core.url_to_fs(url)
    return {path.removeprefix(base).lstrip("/"): store.cat_file(path) for path in store.find(base)}


def local(root: Path) -> dict[str, bytes]:
    """Everything that lies in the root."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def served(url: str, tmp_path: Path) -> int:
    """What a loader gets from there."""
    with HotTeacher(url, cache=tmp_path / "cache", network=Paired, poll_seconds=3600) as teacher:
        assert teacher.predict(BATCH).version == teacher.version
        return teacher.version


def test_a_mirror_becomes_equal_to_the_root(url: str, root: Path, tmp_path: Path) -> None:
    """All versions and current, then what is new; a loader serves from it."""
    opened = mirror(url, root)
    counts = [opened.converge(), opened.converge()]
    assert local(root) == files(url)
    publish(root, 3)
    counts.append(opened.converge())

    assert [2, 0, 1] == counts
    assert local(root) == files(url)
    assert 3 == opened.served == served(url, tmp_path)


def test_a_restarted_daemon_writes_only_what_is_missing(url: str, root: Path) -> None:
    """It looks at what is there instead of remembering."""
    mirror(url, root).converge()
    store, base = fsspec.core.url_to_fs(url)
    store.rm_file(f"{base}/versions/000001/teacher.safetensors")

    assert 1 == mirror(url, root).converge()
    assert 0 == mirror(url, root).converge()
    assert local(root) == files(url)


def test_what_the_root_removed_is_removed(url: str, root: Path) -> None:
    """Retention is the root's; strange names are left alone."""
    opened = mirror(url, root)
    opened.converge()
    store, base = fsspec.core.url_to_fs(url)
    store.pipe_file(f"{base}/versions/notes.txt", b"mine")
    shutil.rmtree(version_folder(root, 1))
    publish(root, 3)
    opened.converge()

    assert {**local(root), "versions/notes.txt": b"mine"} == files(url)


def test_current_is_the_last_to_come_and_manifests_after_their_weights(root: Path) -> None:
    """Whoever reads at any moment finds whole versions behind whatever he sees."""
    url = new_bucket()
    mirror(url, root).converge()

    names = [path.split("/teachers/")[1] for path in FaultyStore.written]
    assert [
        "versions/000002/teacher.safetensors",
        "versions/000002/manifest.json",
        "versions/000001/teacher.safetensors",
        "versions/000001/manifest.json",
        "current",
    ] == names


def failing_at(number: int) -> Callable[[str, str], None]:
    """A fault at the n-th operation."""
    left = [number]

    def fault(operation: str, path: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(f"{operation} {path}: connection reset")

    return fault


def test_a_failure_at_any_operation_loses_nothing(root: Path, tmp_path: Path) -> None:
    """What is there then is whole for a loader; the next process does the rest."""
    for number in range(1, 100):
        url = new_bucket()
        mirror(url, root).converge()
        publish(root, 100 + number)
        FaultyStore.fault = failing_at(number)
        try:
            mirror(url, root).converge()
        except OSError:
            is_done = False
        else:
            is_done = True
        FaultyStore.fault = None
        assert served(url, tmp_path / str(number)) in {100 + number, 99 + number, 2}

        mirror(url, root).converge()

        assert local(root) == files(url)
        shutil.rmtree(version_folder(root, 100 + number - 1), ignore_errors=True)
        if is_done:
            assert number > 8
            return
    raise AssertionError("it never got through")


def test_a_version_that_is_pruned_meanwhile_is_passed_over(
    url: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning thread does not wait for a mirror."""
    opened = mirror(url, root)
    put = opened._put_weights

    def prune_first(name: str, source: Path) -> None:
        if "000001" in name:
            shutil.rmtree(version_folder(root, 1))
        put(name, source)

    monkeypatch.setattr(opened, "_put_weights", prune_first)

    assert 1 == opened.converge()
    assert local(root) == files(url)


def test_a_place_of_another_lineage_is_not_written(url: str, root: Path, tmp_path: Path) -> None:
    """Two daemons with one URL would take turns; the message names both."""
    publish(tmp_path / "other", 9, lineage="other")
    mirror(url, tmp_path / "other").converge()
    before = files(url)

    with pytest.raises(MirrorError, match="holds lineage other, this one is abc") as raised:
        mirror(url, root).converge()

    assert "lineage" == raised.value.reason
    assert before == files(url)


def test_a_mirror_that_is_ahead_is_not_taken_back(url: str, root: Path, tmp_path: Path) -> None:
    """An old copy of the state that was started by mistake; after a restore the epoch is higher."""
    publish(tmp_path / "ahead", 5)
    mirror(url, tmp_path / "ahead").converge()

    with pytest.raises(MirrorError, match=r"serves epoch and version \(1, 5\)") as raised:
        mirror(url, root).converge()
    assert "newer" == raised.value.reason

    publish(root, 3, epoch=2)
    mirror(url, root).converge()
    assert local(root) == files(url)


def test_a_number_that_means_another_version_after_a_restore_is_written_anew(
    url: str, root: Path, tmp_path: Path
) -> None:
    """Under a higher epoch the same number has other content."""
    for version in (1, 2, 3):
        publish(tmp_path / "before", version, sigma=0.5)
    mirror(url, tmp_path / "before").converge()
    publish(root, 3, epoch=2)

    mirror(url, root).converge()

    assert local(root) == files(url)


def test_damage_on_the_mirror_is_mended(url: str, root: Path) -> None:
    """Rubbish in current or in the manifest it names."""
    mirror(url, root).converge()
    store, base = fsspec.core.url_to_fs(url)
    store.pipe_file(f"{base}/current", b"rubbish")
    store.pipe_file(f"{base}/versions/000002/manifest.json", b"rubbish")

    mirror(url, root).converge()

    assert local(root) == files(url)


def test_signatures_come_along_also_later(url: str, root: Path, tmp_path: Path) -> None:
    """A key that is configured later signs what is there already."""
    opened = mirror(url, root)
    opened.converge()
    key = load_signing_key(str(make_keys(tmp_path)[0]))
    assert key is not None
    for version in (1, 2):
        folder = version_folder(root, version)
        ensure_signed(folder, key, sha256=read_manifest(folder).weights_sha256)

    assert 2 == opened.converge()
    assert local(root) == files(url)
    assert f"versions/000002/{SIGNATURE}" in files(url)


def test_without_a_served_version_nothing_is_written(url: str, tmp_path: Path) -> None:
    """A lineage that has not begun."""
    (tmp_path / "root" / "versions").mkdir(parents=True)
    point(tmp_path / "root", b"rubbish")

    opened = mirror(url, tmp_path / "root")

    assert (0, None) == (opened.converge(), opened.served)


def test_secrets_come_from_files(root: Path, tmp_path: Path) -> None:
    """They reach the store's library and no configuration."""
    (tmp_path / "token").write_text("s3cret\n")
    config = MirrorConfig(
        url=new_bucket(),
        options={"endpoint_url": "http://x"},
        option_files={"token": str(tmp_path / "token")},
    )

    options = Mirror("m", config, root)._files.storage_options

    assert ("s3cret", "http://x") == (options["token"], options["endpoint_url"])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"url": "nosuch://b"}, "publication.mirrors.m.url"),
        ({"url": "s3://b"}, "publication.mirrors.m.url"),
        ({"option_files": {"token": "/nowhere"}}, "publication.mirrors.m.option_files.token"),
    ],
)
def test_what_cannot_be_used_is_a_wrong_configuration(
    root: Path, changes: dict[str, object], key: str
) -> None:
    """Told at the start, by its key: a kind unknown, its package missing, a file missing."""
    config = dataclasses.replace(MirrorConfig(url="memory://b"), **changes)

    with pytest.raises(ConfigurationError) as raised:
        Mirror("m", config, root)

    assert [key] == [problem.key for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"url": "bucket/path"}, "url: bucket/path: must begin with"),
        ({"url": "s3://b", "max_backoff_seconds": 0}, "max_backoff_seconds: 0: must be at least 1"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, object], reason: str) -> None:
    """Field, value, rule and fix."""
    with pytest.raises(ValueError, match=reason):
        MirrorConfig(**values)  # type: ignore[arg-type]  # parametrised
