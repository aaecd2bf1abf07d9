"""Tests of HotTeacher with a public key: only what is signed is served."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from served_networks import MODES, change_manifest, publish_mlp
from signing_keys import make_keys
from versions import point

from teacherd.models.artifact import SIGNATURE, version_folder
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.serving_slot import Mode
from teacherd.models.signature import SigningKey


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each way of swapping."""
    return request.param


def test_only_signed_versions_are_served_where_a_key_is_given(tmp_path: Path, mode: Mode) -> None:
    """Unsigned, signed by a stranger, or changed after signing: refused, the old one serves on."""
    private, public = make_keys(tmp_path)
    stranger, _ = make_keys(tmp_path, "stranger")

    def sign(version: int, key: Path) -> None:
        folder = version_folder(tmp_path, version)
        signature = SigningKey.from_pem(key.read_bytes()).sign(
            (folder / "manifest.json").read_bytes()
        )
        (folder / SIGNATURE).write_bytes(signature)

    publish_mlp(tmp_path, 1)
    sign(1, private)
    looks = []
    with HotTeacher(tmp_path, mode=mode, poll_seconds=3600.0, public_key=public) as teacher:
        publish_mlp(tmp_path, 2)
        looks.append(teacher.refresh())
        sign(2, stranger)
        looks.append(teacher.refresh())
        shutil.copy(
            version_folder(tmp_path, 1) / SIGNATURE, version_folder(tmp_path, 2) / SIGNATURE
        )
        looks.append(teacher.refresh())
        sign(2, private)
        change_manifest(tmp_path, sigma=0.5)
        looks.append(teacher.refresh())
        assert (1, {"signature": 4}) == (teacher.version, dict(teacher.stats.failures))
        sign(2, private)
        looks.append(teacher.refresh())

    assert [False] * 4 + [True] == looks


def test_a_signature_does_not_make_an_old_version_new(tmp_path: Path) -> None:
    """Whoever can write `current` cannot roll a loader back to a version that was good once."""
    private, public = make_keys(tmp_path)
    pointers = []
    for version in (1, 2):
        pointers.append(publish_mlp(tmp_path, version))
        folder = version_folder(tmp_path, version)
        key = SigningKey.from_pem(private.read_bytes())
        (folder / SIGNATURE).write_bytes(key.sign((folder / "manifest.json").read_bytes()))
    with HotTeacher(tmp_path, poll_seconds=3600.0, public_key=public.read_bytes()) as teacher:
        point(tmp_path, pointers[0])
        first = teacher.refresh()
        point(tmp_path, dataclasses.replace(pointers[0], version=3))
        second = teacher.refresh()
        point(tmp_path, dataclasses.replace(pointers[0], epoch=2))
        third = teacher.refresh()

        assert [False] * 3 == [first, second, third]
        assert (2, {"downgrade": 1, "manifest": 2}) == (
            teacher.version,
            dict(teacher.stats.failures),
        )


@pytest.mark.parametrize("key", ["nowhere.pem", b"rubbish"])
def test_a_public_key_that_is_none_is_refused_by_name(tmp_path: Path, key: str | bytes) -> None:
    """When it is made, not when the first version comes."""
    with pytest.raises(ValueError, match=r"^public_key: "):
        HotTeacher(tmp_path, public_key=key)
