"""Plain files: read whole, or refused with one of four reasons."""

import os
from pathlib import Path

import pytest

from teacherd.models.plain_file import PlainFileError, read_plain_file


def refusal(path: Path) -> str:
    """Return the reason for which the path is refused."""
    with pytest.raises(PlainFileError) as raised:
        read_plain_file(path, largest_bytes=10)
    return raised.value.reason


def test_a_file_up_to_the_limit_is_read_and_a_larger_one_refused(tmp_path: Path) -> None:
    """The limit itself is still allowed."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert b"0123456789" == read_plain_file(path, largest_bytes=10)

    path.write_bytes(b"0123456789+")
    assert "size" == refusal(path)


def test_links_pipes_folders_and_absent_files_are_refused(tmp_path: Path) -> None:
    """Even a link to a good file is refused, and a pipe does not block."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")

    assert "path" == refusal(tmp_path / "link")
    assert "path" == refusal(tmp_path / "pipe")
    assert "path" == refusal(tmp_path)
    assert "missing" == refusal(tmp_path / "absent")
    assert "missing" == refusal(tmp_path / "file" / "below")
    assert "unreadable" == refusal(tmp_path / ("n" * 300))
