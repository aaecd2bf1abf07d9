"""The pointer to the served version: read back as it was written, never leading out of the root."""

import dataclasses
import json
from pathlib import Path

import pytest
from versions import publish

from teacherd.models.artifact import ArtifactError, read_manifest, version_folder
from teacherd.models.current_pointer import CurrentPointer, read_current, served_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good version below a root."""
    publish(tmp_path, 42)
    return version_folder(tmp_path, 42)


def test_current_points_at_a_version_and_its_manifest(folder: Path) -> None:
    """Pointer to folder and digest survive bytes, and the digest is that of the file."""
    root = folder.parent.parent
    pointer = CurrentPointer.to(root, read_manifest(folder))
    (root / "current").write_bytes(pointer.to_bytes())

    assert pointer == read_current(root)
    assert (1, 42, "versions/000042") == (pointer.epoch, pointer.version, pointer.folder)
    assert folder == served_folder(root, pointer)
    assert read_manifest(folder) == read_manifest(folder, sha256=pointer.manifest_sha256)


def test_a_manifest_that_current_does_not_mean_is_refused(folder: Path) -> None:
    """The digest in current pins the manifest, which pins the weights."""
    pointer = CurrentPointer.to(folder.parent.parent, read_manifest(folder))
    path = folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")

    with pytest.raises(ArtifactError) as raised:
        read_manifest(folder, sha256=pointer.manifest_sha256)

    assert "checksum" == raised.value.reason


@pytest.mark.parametrize(
    "change",
    [
        {"folder": "../outside"},
        {"folder": "versions/../../outside"},
        {"folder": "/etc"},
        {"folder": ""},
        {"folder": "."},
        {"folder": "versions/\0"},
        {"folder": "versions/\ud800"},
        {"folder": 3},
        {"manifest_sha256": "x"},
        {"version": -1},
        {"version": None},
        {"epoch": 0},
        {"more": 1},
    ],
)
def test_a_pointer_that_could_lead_astray_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Paths upwards, absolute or unprintable, and ill-typed values."""
    good = {"epoch": 1, "version": 2, "folder": "versions/000002", "manifest_sha256": "0" * 64}
    (tmp_path / "current").write_text(json.dumps({**good, **change}), encoding="utf-8")

    with pytest.raises(ArtifactError) as raised:
        read_current(tmp_path)

    assert ("pointer", tmp_path / "current") == (raised.value.reason, raised.value.path)


def test_a_missing_pointer_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    """Nothing published yet is no damage."""
    with pytest.raises(ArtifactError) as raised:
        read_current(tmp_path)

    assert "missing" == raised.value.reason


def test_a_folder_that_links_out_of_the_root_is_refused(folder: Path, tmp_path: Path) -> None:
    """A relative path without dots may still leave by way of a link."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "versions").symlink_to(folder.parent)
    (root / "loop").symlink_to(root / "loop")
    pointer = CurrentPointer.to(tmp_path, read_manifest(folder))

    for path in ("versions/000042", "loop"):
        with pytest.raises(ArtifactError) as raised:
            served_folder(root, dataclasses.replace(pointer, folder=path))
        assert "path" == raised.value.reason
