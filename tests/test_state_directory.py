"""A state directory: opened whole and mended, or refused and left as it is."""

import shutil
from pathlib import Path

import pytest
from base_models import untrained_base
from lineages import NOW, accept_task, open_state

from teacherd.daemon.checkpoint import Checkpoint
from teacherd.daemon.config import ModelConfig
from teacherd.daemon.errors import ConfigurationError, ExitCode, StateError, TemporaryError
from teacherd.daemon.opening import open_lineage
from teacherd.daemon.state_directory import StateDirectory


def save_checkpoint(state: StateDirectory) -> None:
    """Write a checkpoint pinned to the log as it is now."""
    lineage = state.journal.lineage
    state.checkpoints.save(Checkpoint(lineage=lineage.id, pin=state.journal.pin, head=lineage.head))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a state directory that holds one learned version and a checkpoint."""
    state = open_state(tmp_path / "state")
    open_lineage(ModelConfig(base=str(untrained_base(tmp_path))), state, seed=7, now=NOW)
    accept_task(state)
    save_checkpoint(state)
    state.close()
    return tmp_path / "state"


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below but the lock."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_a_new_directory_is_made(tmp_path: Path) -> None:
    """Folders on the way, too; there is no lineage in it yet."""
    state = open_state(tmp_path / "a" / "state")

    assert state.journal.is_new
    assert state.newest is None

    state.close()


def test_what_was_written_is_found_again(directory: Path) -> None:
    """Log, checkpoint and versions, and nothing has changed by opening."""
    before = contents(directory)
    state = open_state(directory)

    assert 1 == state.journal.lineage.head
    assert state.newest is not None
    assert state.journal.pin == state.newest.checkpoint.pin

    state.close()
    assert before == contents(directory)


def test_a_second_process_is_refused(directory: Path) -> None:
    """Until the first has closed."""
    state = open_state(directory)

    with pytest.raises(TemporaryError, match="in use by process"):
        open_state(directory)

    state.close()
    open_state(directory).close()


def test_leftovers_of_a_crash_are_removed(directory: Path) -> None:
    """Wherever a temporary name may have been left."""
    before = contents(directory)
    for place in (".", "checkpoints", "public", "public/versions"):
        (directory / place / ".tmp-left-1").mkdir()
        (directory / place / ".tmp-left-1" / "half").write_bytes(b"half")
    (directory / "public" / "versions" / "000002").mkdir()
    open_state(directory).close()

    assert before == contents(directory)
    assert not list(directory.rglob(".tmp-*"))
    assert not (directory / "public" / "versions" / "000002").exists()


def test_a_log_without_what_a_checkpoint_relies_on_is_refused(directory: Path) -> None:
    """A restored older log, or a lost one: no version may go because the log does not know it."""
    lines = (directory / "lineage.log").read_bytes().splitlines(keepends=True)
    (directory / "lineage.log").write_bytes(b"".join(lines[:-1]))
    before = contents(directory)

    with pytest.raises(StateError, match="restore both from one backup") as caught:
        open_state(directory)

    assert ExitCode.STATE == caught.value.exit_code
    assert before == contents(directory)

    (directory / "lineage.log").unlink()
    with pytest.raises(StateError, match="does not contain the 5 entries"):
        open_state(directory)

    assert {"public/versions/000000/manifest.json", "public/versions/000001/manifest.json"} < set(
        contents(directory)
    )


def test_versions_without_their_log_are_refused_and_kept(directory: Path) -> None:
    """A lost log must not cost the versions as well, though nothing in it names them."""
    shutil.rmtree(directory / "checkpoints")
    (directory / "lineage.log").unlink()
    before = {name for name in contents(directory) if name.startswith("public/")}
    with pytest.raises(StateError, match="the lineage log beside it is empty"):
        open_state(directory)

    assert before == {name for name in contents(directory) if name.startswith("public/")}


def test_another_lineages_log_is_refused(directory: Path, tmp_path: Path) -> None:
    """As long as the checkpoints', but not theirs."""
    other = open_state(tmp_path / "other")
    open_lineage(ModelConfig(base=str(tmp_path / "base")), other, seed=8, now=NOW)
    accept_task(other)
    other.close()
    (directory / "lineage.log").write_bytes((tmp_path / "other" / "lineage.log").read_bytes())

    with pytest.raises(StateError, match="log and checkpoints are of different times"):
        open_state(directory)


def test_a_refused_directory_is_given_back(directory: Path) -> None:
    """Whoever mends it in the same process can open it then."""
    log = (directory / "lineage.log").read_bytes()
    (directory / "lineage.log").write_bytes(log.replace(b"2030", b"2031", 1))
    with pytest.raises(StateError, match="line 1 is damaged"):
        open_state(directory)
    (directory / "lineage.log").write_bytes(log)

    open_state(directory).close()


def test_an_unreadable_newest_checkpoint_costs_only_itself(directory: Path) -> None:
    """The one before is taken, and the log has the rest."""
    state = open_state(directory)
    accept_task(state)
    save_checkpoint(state)
    state.close()
    (directory / "checkpoints" / "00000002" / "checkpoint.json").write_bytes(b"")

    state = open_state(directory)

    assert state.newest is not None
    assert 1 == state.newest.checkpoint.head
    assert 2 == state.journal.lineage.head
    state.close()


def test_a_directory_that_cannot_be_is_a_wrong_configuration(tmp_path: Path) -> None:
    """The dotted key and the reason are told."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ConfigurationError, match=r"process\.state_directory: .*Not a directory"):
        open_state(tmp_path / "file" / "state")
    with pytest.raises(ConfigurationError, match=r"process\.state_directory: .*File exists"):
        open_state(tmp_path / "file")
