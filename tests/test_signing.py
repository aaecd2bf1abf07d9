"""The daemon's signatures: on every version it writes, and on those that it wrote before."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from base_models import untrained_base
from lineages import NOW, accept_task, open_state
from signing_keys import make_keys

from teacherd.daemon.config import ModelConfig
from teacherd.daemon.errors import ConfigurationError
from teacherd.daemon.opening import open_lineage
from teacherd.daemon.publication import PublicationConfig
from teacherd.daemon.signing import ensure_signed, load_signing_key
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.artifact import (
    MANIFEST,
    SIGNATURE,
    ArtifactError,
    read_manifest,
    version_folder,
)
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.signature import TrustedKeys


def open_signed(tmp_path: Path, private: Path) -> StateDirectory:
    """Open the state directory with a key."""
    return StateDirectory(
        tmp_path / "state",
        PublicationConfig(signing_key_file=str(private)),
        keep_checkpoints=3,
        now=lambda: NOW,
    )


def is_signed(state: StateDirectory, version: int, public: Path) -> bool:
    """Tell whether a version has a good signature."""
    trusted = TrustedKeys.from_pem(public.read_bytes())
    try:
        read_manifest(version_folder(state.versions.root, version), trusted=trusted)
    except ArtifactError as error:
        if error.reason != "signature":
            raise
        return False
    return True


def test_every_version_is_signed_when_it_appears(tmp_path: Path) -> None:
    """Version 0 too; a loader with the public key serves it."""
    private, public = make_keys(tmp_path)
    state = open_signed(tmp_path, private)
    open_lineage(ModelConfig(base=str(untrained_base(tmp_path))), state, seed=7, now=NOW)
    accept_task(state)

    assert is_signed(state, 0, public)
    assert is_signed(state, 1, public)
    with HotTeacher(state.versions.root, public_key=public, poll_seconds=3600) as teacher:
        assert 1 == teacher.version
    state.close()


def test_what_was_written_before_is_signed_at_the_start(tmp_path: Path) -> None:
    """With the first key, and with the next one when the key is changed."""
    first, first_public = make_keys(tmp_path, "first")
    second, second_public = make_keys(tmp_path, "second")
    state = open_state(tmp_path / "state")
    open_lineage(ModelConfig(base=str(untrained_base(tmp_path))), state, seed=7, now=NOW)
    accept_task(state)
    state.close()
    seen = []
    for key in (first, second):
        state = open_signed(tmp_path, key)
        seen += [is_signed(state, 1, first_public), is_signed(state, 1, second_public)]
        state.close()

    assert [True, False, False, True] == seen


def test_weights_that_are_not_the_logs_are_not_signed(tmp_path: Path) -> None:
    """A signature says that the daemon made it."""
    private, public = make_keys(tmp_path)
    state = open_state(tmp_path / "state")
    open_lineage(ModelConfig(base=str(untrained_base(tmp_path))), state, seed=7, now=NOW)
    folder = version_folder(state.versions.root, 0)
    key = load_signing_key(str(private))
    assert key is not None

    ensure_signed(folder, key, sha256="0" * 64)
    assert not (folder / SIGNATURE).exists()
    ensure_signed(version_folder(state.versions.root, 9), key, sha256="0" * 64)

    ensure_signed(folder, key, sha256=read_manifest(folder).weights_sha256)
    assert is_signed(state, 0, public)
    state.close()


def test_openssl_checks_a_signature(
    tmp_path: Path, requires_program: Callable[[str, str], Path]
) -> None:
    """And its keys are ours: nobody needs this program to look after his keys."""
    openssl = requires_program("openssl", "apt install openssl")
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    commands = [
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ]
    for command in commands:
        subprocess.run([openssl, *command], check=True, capture_output=True)
    state = open_signed(tmp_path, private)
    open_lineage(ModelConfig(base=str(untrained_base(tmp_path))), state, seed=7, now=NOW)
    folder = version_folder(state.versions.root, 0)
    state.close()

    checked = subprocess.run(
        [
            *(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", public),
            *("-rawin", "-in", folder / MANIFEST, "-sigfile", folder / SIGNATURE),
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Signature Verified Successfully" in checked.stdout
    assert is_signed(state, 0, public)


@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_a_key_that_is_none_is_a_wrong_configuration(tmp_path: Path, content: bytes | None) -> None:
    """With the key and how to make one; without a key nothing is signed."""
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="openssl genpkey") as raised:
        load_signing_key(str(path))

    assert "publication.signing_key_file" == raised.value.problems[0].key
    assert load_signing_key(None) is None
