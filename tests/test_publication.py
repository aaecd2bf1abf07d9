"""The version store: folders appear whole, `current` moves at once, nothing pinned goes."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_models import untrained_base
from lineages import NOW, accept_task, next_plan, open_state, write_next_version

from teacherd.daemon.config import ModelConfig
from teacherd.daemon.errors import StateError
from teacherd.daemon.opening import open_lineage
from teacherd.daemon.publication import PublicationConfig, VersionStore
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.artifact import Manifest, load_artifact, version_folder


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """Open a lineage that keeps its two newest versions."""
    state = open_state(tmp_path / "state", keep_versions=2)
    base = untrained_base(tmp_path)
    open_lineage(ModelConfig(base=str(base)), state, seed=7, now=NOW)
    yield state
    state.close()


def names(state: StateDirectory) -> list[str]:
    """Return what lies in `versions/`."""
    return sorted(path.name for path in (state.versions.root / "versions").iterdir())


def served(state: StateDirectory) -> int:
    """Return the version that `current` names."""
    pointer = state.versions.served()
    assert pointer is not None
    return pointer.version


def test_a_served_version_is_found_through_current(state: StateDirectory) -> None:
    """The pointer leads to the folder, and its digest is the manifest's."""
    manifest = accept_task(state)

    pointer = state.versions.served()

    assert pointer is not None
    assert (1, "versions/000001") == (pointer.version, pointer.folder)
    assert manifest == load_artifact(state.versions.root / pointer.folder).manifest
    assert state.versions.serves(manifest)


def test_what_an_undecided_attempt_left_is_replaced(state: StateDirectory) -> None:
    """A crash after the folder and before the outcome: the retry writes the same number."""
    state.journal.record(next_plan(state))
    write_next_version(state)
    (version_folder(state.versions.root, 1) / "rubbish").write_bytes(b"")

    write_next_version(state)

    assert ["manifest.json", "teacher.safetensors"] == sorted(
        path.name for path in version_folder(state.versions.root, 1).iterdir()
    )


def test_a_disk_that_is_full_leaves_no_version(state: StateDirectory) -> None:
    """Nothing has appeared, and the error names the folder."""

    def fill(folder: Path) -> Manifest:
        (folder / "manifest.json").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StateError, match="000001: cannot be written: No space left"):
        state.versions.write(1, fill)

    assert ["000000"] == names(state)


def test_weights_that_are_not_the_logs_are_refused(state: StateDirectory) -> None:
    """A version of another lineage in the right place is not this lineage's version."""
    sha256 = accept_task(state).weights_sha256
    state.versions.load(1, sha256)

    with pytest.raises(StateError, match="not those of the lineage log"):
        state.versions.load(1, "0" * 64)
    with pytest.raises(StateError, match="000009"):
        state.versions.load(9, sha256)


def test_a_version_that_is_not_there_cannot_be_served(state: StateDirectory) -> None:
    """What was served is served still."""
    manifest = accept_task(state, should_publish=False)
    (version_folder(state.versions.root, 1) / "manifest.json").unlink()

    with pytest.raises(StateError, match="000001"):
        state.versions.serve(manifest)

    assert 0 == served(state)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"junk"])
def test_a_current_that_cannot_be_read_is_none(
    state: StateDirectory, content: bytes | None
) -> None:
    """The start writes it anew from the log."""
    current = state.versions.root / "current"
    if content is None:
        current.unlink()
    else:
        current.write_bytes(content)

    assert state.versions.served() is None


def test_mending_removes_what_no_entry_names(state: StateDirectory) -> None:
    """Temporaries, undecided versions and strangers go; every version of the log stays."""
    accept_task(state)
    root = state.versions.root
    (root / ".tmp-current-1").write_bytes(b"")
    (root / "versions" / ".tmp-000002-1").mkdir()
    (root / "versions" / "000002").mkdir()
    (root / "versions" / "notes.txt").write_bytes(b"")

    removed = state.versions.mend(state.journal.lineage)

    assert {".tmp-current-1", ".tmp-000002-1", "000002", "notes.txt"} == set(removed)
    assert ["000000", "000001"] == names(state)
    assert ["current", "versions"] == sorted(path.name for path in root.iterdir())
    assert [] == state.versions.mend(state.journal.lineage)


def test_the_newest_are_kept(state: StateDirectory) -> None:
    """Besides them only version 0, which every comparison needs."""
    for _ in range(5):
        accept_task(state)
        state.versions.prune(state.journal.lineage)

    assert ["000000", "000004", "000005"] == names(state)


def test_the_served_version_is_never_pruned(state: StateDirectory) -> None:
    """However far the head runs ahead of it."""
    accept_task(state)
    for _ in range(4):
        accept_task(state, should_publish=False)
        state.versions.prune(state.journal.lineage)

    assert 1 == served(state)
    assert ["000000", "000001", "000004", "000005"] == names(state)


def test_a_half_removed_version_is_under_no_versions_name(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash while files go leaves a temporary, which the next start removes."""
    for _ in range(3):
        accept_task(state)
    monkeypatch.setattr("shutil.rmtree", lambda *_arguments, **_keywords: None)
    state.versions.prune(state.journal.lineage)
    monkeypatch.undo()

    assert [".tmp-000001-removed", "000000", "000002", "000003"] == names(state)

    state.versions.mend(state.journal.lineage)

    assert ["000000", "000002", "000003"] == names(state)


def test_a_root_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The error says which path."""
    (tmp_path / "public").write_bytes(b"")

    with pytest.raises(StateError, match="public: cannot be used: Not a directory"):
        VersionStore(PublicationConfig(), tmp_path / "public")


def test_keeping_nothing_is_refused() -> None:
    """Field, value, rule and fix."""
    with pytest.raises(ValueError, match="keep_versions: 0: must be at least 1; take 50"):
        PublicationConfig(keep_versions=0)
