"""Copies a stream log while producers append to it and a daemon reads it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log_file import StreamLogError, source_errors


def copy_stream_log(source: Path, target: Path) -> int:
    """Copy a stream log as it is at one moment; return below which offset it holds nothing.

    Raises:
        SourceError: It does not answer for now, or the disk is full.
        StreamLogError: There is none, or it is damaged.
    """
    if not source.is_file():
        raise StreamLogError(source, "is no file; name the stream log")
    with (
        source_errors(source),
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        # In one step: it reads one snapshot, and in WAL mode holds nobody up.
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = WAL")
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StreamLogError(source, f"is damaged: {verdict}")
        (deleted_below,) = copy.execute("SELECT deleted_below FROM log").fetchone()
    if target.with_name(f"{target.name}-wal").exists():
        raise SourceError(f"{target}: is still open elsewhere")
    return int(deleted_below)
