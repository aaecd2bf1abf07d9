"""The demo's folder: its own is emptied, no other is touched, and two demos do not share one."""

from pathlib import Path

import pytest

from teacherd.daemon.demo_folder import DemoFolder
from teacherd.daemon.errors import ExitCode, TemporaryError, UsageError


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_folder_is_taken(tmp_path: Path, *, exists: bool) -> None:
    """Folders above it are made, too."""
    path = tmp_path / "above" / "out"
    if exists:
        path.mkdir(parents=True)
    DemoFolder(path).close()

    assert [".teacherd-demo"] == [entry.name for entry in path.iterdir()]


def test_an_earlier_demo_is_removed(tmp_path: Path) -> None:
    """Files and folders; of a link only the link."""
    DemoFolder(tmp_path / "out").close()
    (tmp_path / "out" / "state" / "public").mkdir(parents=True)
    (tmp_path / "out" / "summary.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept").touch()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "other")
    DemoFolder(tmp_path / "out").close()

    assert [".teacherd-demo"] == [entry.name for entry in (tmp_path / "out").iterdir()]
    assert (tmp_path / "other" / "kept").exists()


def test_what_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    """However little it is."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds something that is no demo"):
        DemoFolder(tmp_path)

    assert ["thesis.tex"] == [entry.name for entry in tmp_path.iterdir()]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_is_no_folder_is_refused(tmp_path: Path, place: str) -> None:
    """With the reason of the system."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out: .* cannot be used: Not a directory"):
        DemoFolder(tmp_path / place)


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second would empty it under the first; it may try again later."""
    first = DemoFolder(tmp_path / "out")
    (tmp_path / "out" / "state").mkdir()
    with pytest.raises(TemporaryError, match="another demo runs in") as caught:
        DemoFolder(tmp_path / "out")
    still_there = (tmp_path / "out" / "state").exists()
    first.close()
    DemoFolder(tmp_path / "out").close()

    assert still_there
    assert ExitCode.TEMPORARY == caught.value.exit_code
