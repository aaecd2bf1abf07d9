"""Tests of opening the file of a stream log: what it is told from, and what is said."""

import sqlite3
from pathlib import Path

import pytest

from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_file import StreamLogError, open_stream_log, source_errors


def test_a_missing_file_is_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    """No draft stays behind."""
    open_stream_log(tmp_path / "stream.db", "instances").close()

    assert ["stream.db"] == [entry.name for entry in tmp_path.iterdir()]


def test_opening_again_finds_what_is_there(tmp_path: Path) -> None:
    """An existing log is never made anew."""
    config = StreamLogConfig(path=str(tmp_path / "stream.db"))
    first = StreamLog(config)
    first.append([NewRecord(b"x")])
    first.close()
    second = StreamLog(config)
    batch = second.poll(10, 0.0)
    second.close()

    assert batch is not None
    assert [b"x"] == list(batch.values)


def test_no_log_is_begun_beside_the_wal_of_one_that_was_moved_away(tmp_path: Path) -> None:
    """SQLite would take it for the new one's: old records would come again, or pages be mixed."""
    path, wal = tmp_path / "stream.db", tmp_path / "stream.db-wal"
    log = StreamLog(StreamLogConfig(path=str(path)))
    log.append([NewRecord(b"x")])
    left = wal.read_bytes()  # as after a kill
    log.close()
    wal.write_bytes(left)
    path.rename(tmp_path / "stream.db.before")
    with pytest.raises(StreamLogError, match=r"is gone, but stream\.db-wal is there"):
        open_stream_log(path, "instances")

    assert not path.exists()
    wal.write_bytes(b"")  # an empty one has nothing to give
    open_stream_log(path, "instances").close()


def test_a_directory_that_is_missing_is_told_with_the_path(tmp_path: Path) -> None:
    """The message says what to do."""
    path = tmp_path / "missing" / "stream.db"
    with pytest.raises(StreamLogError, match="name a directory that exists") as caught:
        open_stream_log(path, "instances")

    assert str(path) in str(caught.value)


def test_a_directory_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    """It cannot be opened as a file."""
    with pytest.raises(StreamLogError, match="is a directory"):
        open_stream_log(tmp_path, "instances")


def test_a_file_that_may_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read; root may write everywhere, so the system's answer is replaced."""
    path = tmp_path / "stream.db"
    open_stream_log(path, "instances").close()
    monkeypatch.setattr("os.access", lambda checked, _: checked != tmp_path)
    with pytest.raises(StreamLogError, match="cannot be written"):
        open_stream_log(path, "instances")


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"", b"SQLite format 3\x00"])
def test_a_file_that_is_no_stream_log_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """Neither taken over nor changed."""
    path = tmp_path / "stream.db"
    path.write_bytes(content)
    with pytest.raises(StreamLogError, match="stream log"):
        open_stream_log(path, "instances")

    assert content == path.read_bytes()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """A SQLite file is not enough."""
    path = tmp_path / "stream.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE records (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StreamLogError, match="no stream log"):
        open_stream_log(path, "instances")

    assert before == path.read_bytes()


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    """The message names both versions."""
    path = tmp_path / "stream.db"
    connection = open_stream_log(path, "instances")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StreamLogError, match="has format 2, this program reads 1"):
        open_stream_log(path, "instances")


def test_another_topic_is_refused(tmp_path: Path) -> None:
    """Identities contain the topic: the same records must not get others."""
    path = tmp_path / "stream.db"
    open_stream_log(path, "instances").close()
    with pytest.raises(StreamLogError, match="holds the topic 'instances', not 'others'"):
        open_stream_log(path, "others")


def test_a_wrong_call_is_not_taken_for_damage(tmp_path: Path) -> None:
    """Nobody restores a log from a copy because a connection was closed."""
    with pytest.raises(sqlite3.ProgrammingError), source_errors(tmp_path):
        raise sqlite3.ProgrammingError("Cannot operate on a closed database.")


def test_a_damaged_file_is_not_worth_another_try(tmp_path: Path) -> None:
    """SQLite's word for damage becomes an error that is not a SourceError."""
    with pytest.raises(StreamLogError, match="damaged"), source_errors(tmp_path):
        raise sqlite3.DatabaseError("database disk image is malformed")
