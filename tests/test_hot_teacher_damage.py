"""Tests of what HotTeacher does not serve: whatever is damaged or older, and what it does then."""

import dataclasses
import errno
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from served_networks import (
    BATCH,
    MLP,
    MODES,
    change_manifest,
    change_pointer,
    mlp,
    publish_mlp,
    started,
)
from torch import nn
from versions import Paired, point, publish

from teacherd.models.artifact import WEIGHTS, version_folder
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.serving_slot import Mode


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each way of swapping."""
    return request.param


def change_weights(root: Path, data: bytes) -> None:
    """Replace the weights of version 2 so that manifest and current agree with them."""
    folder = version_folder(root, 2)
    (folder / WEIGHTS).write_bytes(data)
    changes = {"weights_bytes": len(data), "weights_sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(root, **changes)


def republish(root: Path, network: nn.Module | None = None, **changes: object) -> None:
    """Make version 2 once more, otherwise."""
    shutil.rmtree(version_folder(root, 2))
    publish_mlp(root, 2, network, **{"epoch": 2, **changes})


def weights(root: Path) -> Path:
    """Where the weights of version 2 lie."""
    return version_folder(root, 2) / WEIGHTS


def flip_a_bit(root: Path) -> None:
    """Damage the weights without changing their size."""
    data = bytearray(weights(root).read_bytes())
    data[-1] ^= 1
    weights(root).write_bytes(data)


def link_out_of_the_root(root: Path) -> None:
    """Let the version's folder lie elsewhere."""
    outside = root.parent / "outside"
    version_folder(root, 2).rename(outside)
    version_folder(root, 2).symlink_to(outside)


def link_current(root: Path) -> None:
    """Put a link in the place of current."""
    (root / "current").rename(root / "real")
    (root / "current").symlink_to(root / "real")


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "corrupt weights": ("checksum", flip_a_bit),
    "truncated weights": ("size", lambda root: weights(root).write_bytes(b"short")),
    "half-written, no weights": ("missing", lambda root: weights(root).unlink()),
    "half-written, no manifest": (
        "missing",
        lambda root: (version_folder(root, 2) / "manifest.json").unlink(),
    ),
    "no folder": ("missing", lambda root: shutil.rmtree(version_folder(root, 2))),
    "another manifest than current means": (
        "checksum",
        lambda root: change_pointer(root, manifest_sha256="0" * 64),
    ),
    "a pickle": ("format", lambda root: change_weights(root, pickle.dumps({"a": 1}))),
    "other shapes": ("tensors", lambda root: republish(root, nn.Linear(4, 3))),
    "other number of classes": ("tensors", lambda root: republish(root, classes=("a", "b"))),
    "NaN weights": ("nonfinite", lambda root: republish(root, mlp(fill=float("nan")))),
    "weights that overflow": ("probe", lambda root: republish(root, mlp(fill=3e38))),
    "unknown network": (
        "network",
        lambda root: republish(root, architecture=dataclasses.replace(MLP, name="mlpp")),
    ),
    "code to import": (
        "code",
        lambda root: republish(root, architecture=dataclasses.replace(MLP, name="os:system")),
    ),
    "a network larger than its weights": (
        "network",
        lambda root: change_manifest(
            root,
            architecture={**dataclasses.asdict(MLP), "arguments": {"width": 2000, "depth": 8}},
        ),
    ),
    "a network that would take all memory": (
        "network",
        lambda root: change_manifest(
            root, architecture={**dataclasses.asdict(MLP), "arguments": {"depth": 10**12}}
        ),
    ),
    "inputs that would take all memory": (
        "network",
        lambda root: change_manifest(
            root,
            architecture={"name": "small_cnn", "input_shape": [4, 10**6, 10**6], "arguments": {}},
        ),
    ),
    "weights announced larger than allowed": (
        "size",
        lambda root: change_manifest(root, weights_bytes=2**60),
    ),
    "another lineage": ("lineage", lambda root: republish(root, lineage="other")),
    "a manifest of another version": ("manifest", lambda root: change_manifest(root, version=9)),
    "an unknown key": ("manifest", lambda root: change_manifest(root, surprise=1)),
    "an older version": ("downgrade", lambda root: publish_mlp(root, 0)),
    "the same version, other manifest": (
        "downgrade",
        lambda root: change_pointer(root, version=1),
    ),
    "an older epoch": ("downgrade", lambda root: publish_mlp(root, 9, epoch=1)),
    "traversal in current": ("pointer", lambda root: change_pointer(root, folder="../outside")),
    "absolute path in current": ("pointer", lambda root: change_pointer(root, folder="/etc")),
    "garbage in current": ("pointer", lambda root: point(root, b"\x80\x04garbage")),
    "empty current": ("pointer", lambda root: point(root, b"")),
    "no current": ("missing", lambda root: (root / "current").unlink()),
    "current is a link": ("path", link_current),
    "current is a folder": (
        "path",
        lambda root: [(root / "current").unlink(), (root / "current").mkdir()],
    ),
    "folder leads out": ("path", link_out_of_the_root),
    "weights are a link": (
        "path",
        lambda root: [weights(root).rename(root / "w"), weights(root).symlink_to(root / "w")],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_version_is_refused_once_and_the_old_one_serves_on(
    tmp_path: Path, mode: Mode, damage: str
) -> None:
    """It is counted by its reason, not tried again at each look, and a good one still comes in."""
    reason, harm = DAMAGES[damage]
    root = tmp_path / "root"
    root.mkdir()
    publish_mlp(root, 1, epoch=2)
    told: list[str] = []
    with HotTeacher(
        root, mode=mode, poll_seconds=3600.0, on_reject=lambda why, _: told.append(why)
    ) as teacher:
        before = teacher.predict(BATCH)
        publish_mlp(root, 2, epoch=2)
        harm(root)

        looks = [teacher.refresh() for _ in range(3)]
        after = teacher.predict(BATCH)
        refused = dict(teacher.stats.failures)
        shutil.rmtree(root / "current", ignore_errors=True)
        publish_mlp(root, 3, epoch=2)
        recovered = teacher.refresh()

        assert [False] * 3 == looks
        assert (1, 1) == (before.version, after.version)
        assert torch.equal(before.probabilities, after.probabilities)
        assert {reason: 1} == refused
        assert [reason] == told
        assert (True, 3) == (recovered, teacher.predict(BATCH).version)


def test_a_version_that_is_completed_later_comes_in_without_a_new_pointer(tmp_path: Path) -> None:
    """On a slow share the weights may arrive after the pointer; any change is worth a look."""
    publish(tmp_path, 1)
    with started(tmp_path) as teacher:
        publish(tmp_path, 2)
        weights(tmp_path).rename(tmp_path / "late")
        early = [teacher.refresh(), teacher.refresh()]
        (tmp_path / "late").rename(weights(tmp_path))

        assert [False, False, True] == [*early, teacher.refresh()]


def test_what_may_pass_by_itself_is_tried_again_at_growing_intervals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unreadable file is retried after 1, 2, 4 polls, and said only once."""
    clock = [0.0]
    publish(tmp_path, 1)
    with HotTeacher(
        tmp_path, network=Paired, poll_seconds=10.0, monotonic=lambda: clock[0]
    ) as teacher:
        publish(tmp_path, 2)
        change_pointer(tmp_path, folder="n" * 300)
        tried_at = []
        for second in range(0, 100, 5):
            clock[0] = float(second)
            failures = teacher.stats.failures.get("unreadable", 0)
            teacher.refresh()
            if teacher.stats.failures["unreadable"] > failures:
                tried_at.append(second)

        assert [0, 10, 30, 70] == tried_at
        messages = [r.getMessage() for r in caplog.records if "rejected" in r.getMessage()]
        assert 1 == len(messages)
        assert "reason=unreadable" in messages[0]


def test_a_stale_handle_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system a file may be replaced under a reader: once is no failure."""
    publish(tmp_path, 1)
    stale = [2, 4]
    real_fstat = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        stale[:] = [left - 1 for left in stale]
        if 0 in stale:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real_fstat(descriptor)

    with started(tmp_path) as teacher:
        publish(tmp_path, 2)
        monkeypatch.setattr(os, "fstat", fstat)

        assert teacher.refresh()
        assert (2, {}) == (teacher.version, dict(teacher.stats.failures))
        assert max(stale) < 0


def test_a_share_that_stays_stale_is_counted_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version serves on; once the share is well the new one comes in."""
    clock = [0.0]
    publish(tmp_path, 1)
    with HotTeacher(
        tmp_path, network=Paired, poll_seconds=10.0, monotonic=lambda: clock[0]
    ) as teacher:
        publish(tmp_path, 2)

        def stale(*_: object) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", stale)
            assert not teacher.refresh()
        assert (1, {"unreadable": 1}) == (teacher.version, dict(teacher.stats.failures))

        clock[0] = 10.0
        assert teacher.refresh()
        assert 2 == teacher.version
