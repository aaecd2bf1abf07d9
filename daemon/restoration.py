"""Puts a backup back: verified first, then copied, so that nothing starts from half of it."""

import shutil
from contextlib import closing
from pathlib import Path

from teacherd.consumers.stream_log_file import StreamLogError, require_no_stray_wal
from teacherd.daemon.backup import STATE, STREAM_LOG, BackupContent, read_backup
from teacherd.daemon.durable import (
    TEMPORARY_PREFIX,
    failpoint,
    make_directory,
    sync_directory,
    sync_tree,
)
from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.state_directory import LINEAGE_LOG, MARKER, PUBLIC, make_state_directory
from teacherd.daemon.state_lock import StateLock

_IGNORED = {"lock", "lost+found"}
_DRAFT = f"{TEMPORARY_PREFIX}restored"


def restore_backup(backup: Path, directory: Path, stream_log: Path) -> tuple[BackupContent, bool]:
    """Copy a backup into an empty state directory; the next start goes on from it.

    Args:
        backup: As `make_backup` wrote it; is left as it is.
        directory: The state directory; made when missing.
        stream_log: Where the stream log belongs: put there if the backup has one and nothing is
            there, else left alone.

    Returns:
        What the backup says, and whether its stream log was put back.

    Raises:
        UsageError: It is no backup, the state directory is not empty, or the stream log was moved
            away without its WAL.
        HeldError: A daemon runs in the state directory.
        StateError: The backup is damaged, or the disk refused.
    """
    content = read_backup(backup)
    make_state_directory(directory)
    with closing(StateLock(directory)):
        _require_empty(directory)
        is_put_back = _restore_stream_log(backup / STREAM_LOG, stream_log)
        _restore_state(backup / STATE, directory)
    return content, is_put_back


def _require_empty(directory: Path) -> None:
    present = [path.name for path in directory.iterdir() if path.name not in _IGNORED | {_DRAFT}]
    if present:
        raise UsageError(
            f"{directory} holds {', '.join(sorted(present)[:3])}: move it away, and keep it until "
            f"all is well: mv {directory} {directory}.before"
        )


def _restore_state(source: Path, directory: Path) -> None:
    draft = directory / _DRAFT
    try:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft)
        sync_tree(draft)
        # The marker first, and the log before the versions: whoever starts from a part of it is
        # refused, rather than begin a new lineage or go on in the old epoch.
        for path in sorted(draft.iterdir(), key=_rank):
            path.rename(directory / path.name)
            sync_directory(directory)
            failpoint(f"restore.{path.name}")
        draft.rmdir()
    except OSError as error:
        raise StateError(directory, f"cannot be written: {error.strerror or error}") from error


def _rank(path: Path) -> int:
    return {MARKER: 0, LINEAGE_LOG: 2, PUBLIC: 3}.get(path.name, 1)


def _restore_stream_log(source: Path, target: Path) -> bool:
    if not source.is_file() or target.exists():
        return False
    try:
        require_no_stray_wal(target)
    except StreamLogError as error:
        raise UsageError(str(error)) from error
    draft = target.with_name(f"{TEMPORARY_PREFIX}{target.name}")
    try:
        make_directory(target.parent)
        shutil.copy2(source, draft)
        sync_tree(draft)
        draft.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StateError(target, f"cannot be written: {error.strerror or error}") from error
    return True
