"""Durable writes: the old content or the new one, at every point at which a process can die."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from teacherd.daemon.durable import (
    FAILPOINT_VARIABLE,
    Failpoints,
    make_directory,
    remove,
    remove_folder,
    remove_temporaries,
    write_file,
    write_folder,
)
from teacherd.daemon.errors import StateError

WRITE_FILE = """
import sys
from pathlib import Path
from teacherd.daemon.durable import write_file
write_file(Path(sys.argv[1]) / "pointer", b"new")
"""
WRITE_FOLDER = """
import sys
from pathlib import Path
from teacherd.daemon.durable import write_folder
write_folder(Path(sys.argv[1]) / "v1", lambda f: (f / "a").write_bytes(b"new"), name="v")
"""


def run_until_failpoint(script: str, directory: Path, failpoint: str) -> int:
    """Run a script that the failpoint kills; return its exit status."""
    environment = {**os.environ, FAILPOINT_VARIABLE: failpoint}
    command = [sys.executable, "-c", script, str(directory)]
    return subprocess.run(command, env=environment, check=False).returncode


@pytest.mark.parametrize(
    ("failpoint", "expected"),
    [("pointer.written", b"old"), ("pointer.synced", b"old"), ("pointer.renamed", b"new")],
)
def test_a_file_is_old_or_new_wherever_the_process_dies(
    tmp_path: Path, failpoint: str, expected: bytes
) -> None:
    """The rename is the one moment at which the content changes."""
    (tmp_path / "pointer").write_bytes(b"old")

    status = run_until_failpoint(WRITE_FILE, tmp_path, failpoint)

    assert -signal.SIGKILL == status
    assert expected == (tmp_path / "pointer").read_bytes()

    remove_temporaries(tmp_path)

    assert ["pointer"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("failpoint", "expected"), [("v.written", False), ("v.synced", False), ("v.renamed", True)]
)
def test_a_folder_is_absent_or_whole_wherever_the_process_dies(
    tmp_path: Path, failpoint: str, expected: bool
) -> None:
    """Nobody sees a half-written version."""
    status = run_until_failpoint(WRITE_FOLDER, tmp_path, failpoint)

    assert -signal.SIGKILL == status
    assert expected == (tmp_path / "v1" / "a").is_file()

    remove_temporaries(tmp_path)

    assert (["v1"] if expected else []) == [path.name for path in tmp_path.iterdir()]


def test_a_refused_write_leaves_the_old_content(tmp_path: Path) -> None:
    """The error names the file; the temporary is gone."""
    (tmp_path / "target").mkdir()

    with pytest.raises(StateError, match="target"):
        write_file(tmp_path / "target", b"new")

    assert ["target"] == [path.name for path in tmp_path.iterdir()]


def test_a_folder_whose_filling_fails_does_not_appear(tmp_path: Path) -> None:
    """A disk that is full in the middle leaves nothing behind."""

    def fill(folder: Path) -> None:
        (folder / "a").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StateError, match="No space left"):
        write_folder(tmp_path / "v1", fill, name="v")

    assert [] == list(tmp_path.iterdir())


def test_only_the_armed_failpoint_kills() -> None:
    """Without the variable, and at other points, nothing happens."""
    Failpoints(None).reach("a")
    armed = Failpoints("a:2")
    armed.reach("b")
    armed.reach("a")

    with pytest.raises(SystemExit):
        _reach_catching_signal(armed)


def _reach_catching_signal(armed: Failpoints) -> None:
    """Turn the kill of a child process into SystemExit."""
    child = os.fork()
    if child == 0:
        armed.reach("a")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise SystemExit(os.WTERMSIG(status))


def test_what_has_gone_meanwhile_counts_as_removed(tmp_path: Path) -> None:
    """A second daemon that starts makes and removes its probe while the first one tidies up."""
    remove(tmp_path / ".tmp-probe")

    assert [] == list(tmp_path.iterdir())


def test_a_made_directory_is_durable_up_to_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every name that was new is synced, in the directory that holds it."""
    synced = []
    monkeypatch.setattr("teacherd.daemon.durable.sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()
    assert [tmp_path, tmp_path / "a", tmp_path / "a"] == synced


def test_a_removed_folder_goes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be deleted is under no name that anybody reads."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "a").write_bytes(b"old")
    monkeypatch.setattr("shutil.rmtree", lambda *_arguments, **_keywords: None)
    remove_folder(tmp_path / "v1")

    assert [".tmp-v1-removed"] == [path.name for path in tmp_path.iterdir()]
    monkeypatch.undo()
    remove_temporaries(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_a_star_stands_for_every_point() -> None:
    """So that a test can die at the n-th thing that happens, whatever it is."""
    names: list[str] = []
    armed = Failpoints("*:3")
    armed.watch(names.append)
    armed.reach("a")
    armed.reach("b")

    with pytest.raises(SystemExit):
        _reach_catching_signal(armed)
    assert ["a", "b"] == names
