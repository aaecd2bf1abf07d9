"""The SQLite file of a stream log: how it is made, opened and told from other files."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from teacherd.consumers.source import SourceError

_APPLICATION_ID = 0x74644C47
_FORMAT_VERSION = 1
_PAGE_BYTES = 16384
"""Holds a few small images: larger pages read faster, smaller ones append faster."""
_WAL_PAGES = 1024
_BUSY_SECONDS = 30.0
"""How long to wait for another process's transaction; they last milliseconds."""

_SCHEMA = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT_VERSION};
CREATE TABLE log (topic TEXT NOT NULL, deleted_below INTEGER NOT NULL) STRICT;
CREATE TABLE records (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp_ms INTEGER NOT NULL,
    key BLOB,
    headers BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    key BLOB,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    requeued_offset INTEGER,
    UNIQUE (topic, partition, offset)
) STRICT;
CREATE INDEX waiting_letters ON dead_letters (number) WHERE requeued_offset IS NULL;
"""
FIRST_OFFSET = 1
"""AUTOINCREMENT begins here."""


class StreamLogError(Exception):
    """The file cannot be used as a stream log; trying again will not help."""

    def __init__(self, path: Path, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path


def open_stream_log(path: Path, topic: str, *, is_read_only: bool = False) -> sqlite3.Connection:
    """Open the log, making it if there is none.

    The connection may pass from thread to thread, but one at a time may use it.

    Args:
        path: The file.
        topic: What it must hold.
        is_read_only: Make and change nothing, whoever else has it open.

    Raises:
        StreamLogError: The file cannot be made, or is something else.
    """
    if is_read_only:
        _require_file(path)
    else:
        _require_writable(path, topic)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rw'}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _check(connection, path, topic)
        # Durable when a transaction returns: what was acknowledged survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StreamLogError(path, f"cannot be read as a stream log: {error}") from error
    except StreamLogError:
        connection.close()
        raise
    return connection


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise StreamLogError(path, "is no file; name the stream log")


def _require_writable(path: Path, topic: str) -> None:
    """Make the file if there is none; refuse a place that will not do."""
    if path.is_dir():
        raise StreamLogError(path, "is a directory; name a file in it")
    if not path.parent.is_dir():
        raise StreamLogError(path, f"{path.parent} is none; name a directory that exists")
    if not path.exists():
        require_no_stray_wal(path)
        _create(path, topic)
    for needed in (path, path.parent):
        if not os.access(needed, os.W_OK):
            raise StreamLogError(path, f"{needed} cannot be written; the log needs both, change it")


def require_no_stray_wal(path: Path) -> None:
    """Refuse a place whose file is gone while its WAL is there, as after a kill and a plain `mv`.

    SQLite would write the other log's pages into whatever file is put there next.

    Raises:
        StreamLogError: It is such a place.
    """
    wal = path.with_name(f"{path.name}-wal")
    has_pages = wal.is_file() and wal.stat().st_size > 0
    # Asked last: another process may have made the log, and its WAL, just now.
    if has_pages and not path.exists():
        raise StreamLogError(
            path,
            f"is gone, but {wal.name} is there, with the newest records of that log: put the file "
            f"back, or move {wal.name} to where it went",
        )


@contextmanager
def source_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into what callers may expect of a source.

    Raises:
        SourceError: The file is busy, the disk is full or does not answer: it may pass.
        StreamLogError: The file is damaged.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise SourceError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # its subclasses tell of a call that was wrong, not of the file
        raise StreamLogError(path, f"is damaged: {error}; restore it from a copy") from error


@contextmanager
def without_waiting(connection: sqlite3.Connection) -> Iterator[None]:
    """Let statements fail at once where another process holds the lock."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the write lock from the start, so that it never has to be upgraded in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        # SQLite itself has rolled back after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _create(path: Path, topic: str) -> None:
    """Make the file under another name first: nobody ever sees a log that is half made."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
            connection.execute("INSERT INTO log VALUES (?, ?)", (topic, FIRST_OFFSET))
            connection.execute("PRAGMA journal_mode = WAL")
        _publish(draft, path)
    except (sqlite3.Error, OSError) as error:
        rule = f"the log cannot be made: {error}; name a directory that exists and can be written"
        raise StreamLogError(path, rule) from error
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    """Give the file its name unless another process was first."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(connection: sqlite3.Connection, path: Path, topic: str) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != _APPLICATION_ID:
        raise StreamLogError(path, "is a SQLite file, but no stream log; name another path")
    if version != _FORMAT_VERSION:
        raise StreamLogError(
            path, f"has format {version}, this program reads {_FORMAT_VERSION}; use its own version"
        )
    (present,) = connection.execute("SELECT topic FROM log").fetchone()
    if present != topic:
        raise StreamLogError(path, f"holds the topic {present!r}, not {topic!r}; set `topic` to it")
