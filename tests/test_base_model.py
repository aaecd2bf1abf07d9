"""Base models: a folder that is written whole or not at all, and never over something else."""

import errno
from pathlib import Path

import pytest
from base_models import CLASSES, untrained_base

from teacherd.daemon import base_model
from teacherd.daemon.base_model import NO_LINEAGE, parse_arguments, require_place
from teacherd.daemon.errors import StateError, UsageError
from teacherd.models.artifact import load_artifact, read_manifest


def test_what_was_written_can_be_loaded(tmp_path: Path) -> None:
    """It is version 0 of no lineage yet, with its classes."""
    manifest = load_artifact(untrained_base(tmp_path)).manifest

    assert (NO_LINEAGE, 0, CLASSES) == (manifest.lineage, manifest.version, manifest.classes)


def test_a_base_model_is_replaced_by_another(tmp_path: Path) -> None:
    """Nothing but the new one remains."""
    before = read_manifest(untrained_base(tmp_path, seed=1))
    after = read_manifest(untrained_base(tmp_path, seed=2))

    assert before.weights_sha256 != after.weights_sha256
    assert ["base"] == [path.name for path in tmp_path.iterdir()]


def test_a_failed_attempt_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs the new base model, never the old one as well."""
    before = read_manifest(untrained_base(tmp_path, seed=1))

    def fail(*_arguments: object, **_keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(base_model, "write_artifact", fail)
    with pytest.raises(StateError, match="No space left"):
        untrained_base(tmp_path, seed=2)

    assert before == load_artifact(tmp_path / "base").manifest
    assert ["base"] == [path.name for path in tmp_path.iterdir()]


def test_what_a_killed_attempt_left_is_no_obstacle(tmp_path: Path) -> None:
    """The same command can simply be given again."""
    (tmp_path / ".tmp-base").mkdir()
    (tmp_path / ".tmp-base" / "half").write_bytes(b"")
    untrained_base(tmp_path)

    assert ["base"] == [path.name for path in tmp_path.iterdir()]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A person who keeps base models elsewhere keeps the link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to("real")
    untrained_base(tmp_path)

    assert (tmp_path / "base").is_symlink()
    assert read_manifest(tmp_path / "real") == read_manifest(tmp_path / "base")


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    """--out a/b/base works where there is no a."""
    assert 0 == read_manifest(untrained_base(tmp_path / "a" / "b")).version


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_anything_else_in_the_place_is_left_alone(tmp_path: Path, kind: str) -> None:
    """Asked before long work, and again before writing."""
    place = tmp_path / "base"
    if kind == "file":
        place.write_bytes(b"mine")
    else:
        place.mkdir()
        (place / "mine").write_bytes(b"mine")

    with pytest.raises(UsageError, match="no base model"):
        require_place(place)
    with pytest.raises(UsageError, match="no base model"):
        untrained_base(tmp_path)

    assert b"mine" == (place if kind == "file" else place / "mine").read_bytes()


def test_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    """Somebody may have made it for this purpose."""
    (tmp_path / "base").mkdir()
    require_place(tmp_path / "base")
    untrained_base(tmp_path)


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The way leads through a file."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises((UsageError, StateError), match="file"):
        untrained_base(tmp_path / "file")


def test_arguments_are_read_as_yaml() -> None:
    """Numbers, booleans and words come as such."""
    arguments = ["width=8", "dropout=0.1", "is_wide=true", "norm=batch"]

    assert {"width": 8, "dropout": 0.1, "is_wide": True, "norm": "batch"} == parse_arguments(
        arguments
    )


@pytest.mark.parametrize("argument", ["width", "=8", "a b=8", "width=", "width=[1", "width=[1]"])
def test_an_argument_of_another_form_is_refused(argument: str) -> None:
    """The error shows what was typed."""
    with pytest.raises(UsageError, match="--argument") as caught:
        parse_arguments([argument])

    assert repr(argument) in str(caught.value)
