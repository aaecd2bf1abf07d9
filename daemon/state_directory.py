"""A state directory: lock, lineage log, checkpoints and versions, opened together and mended."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import structlog

from teacherd.daemon.checkpoint import CheckpointStore, StoredCheckpoint
from teacherd.daemon.deferred_store import DeferredStore
from teacherd.daemon.durable import make_directory, remove_temporaries, sync_directory
from teacherd.daemon.entries import Restore
from teacherd.daemon.errors import ConfigurationError, Problem, StateError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage_log import LineageLog
from teacherd.daemon.publication import PublicationConfig, VersionStore
from teacherd.daemon.quarantine import Quarantine
from teacherd.daemon.state_format import STATE_FORMAT, require_known_format, write_format
from teacherd.daemon.state_lock import StateLock

LINEAGE_LOG = "lineage.log"
CHECKPOINTS = "checkpoints"
PUBLIC = "public"
QUARANTINE = "quarantine"
DEFERRED = "deferred"
RETRIES = "retries.json"
MARKER = "backup.json"
"""Lies in a state directory that is a copy, until a daemon starts from it."""


class StateDirectory:
    """Everything durable of one lineage, held by this process.

    Args:
        now: ISO 8601 time in UTC for the log's entries.
        lock: Of this directory, if it is held already; closed with the rest.

    Raises:
        ConfigurationError: The directory cannot be made or written, or is of a newer teacherd.
        TemporaryError: Another process holds it.
        StateError: What it holds cannot be trusted.
    """

    def __init__(
        self,
        directory: Path,
        publication: PublicationConfig,
        *,
        keep_checkpoints: int,
        now: Callable[[], str],
        lock: StateLock | None = None,
    ) -> None:
        make_state_directory(directory)
        self._log = structlog.get_logger()
        with ExitStack() as opened:
            held = lock or StateLock(directory)
            opened.callback(held.close)
            remove_temporaries(directory)
            found = require_known_format(directory)
            self.checkpoints = CheckpointStore(directory / CHECKPOINTS, keep=keep_checkpoints)
            self.newest = self.checkpoints.load_newest(self._warn_unreadable)
            pinned = self.newest.checkpoint.pin.num_entries if self.newest else 0
            self.log_path = directory / LINEAGE_LOG
            log = LineageLog(self.log_path, now=now, pinned=pinned)
            opened.callback(log.close)
            self.journal = Journal(log)
            _require_same_log(directory, self.journal, self.newest)
            self.quarantine = Quarantine(directory / QUARANTINE)
            self.quarantine.mend(self.journal.lineage)
            self.deferred = DeferredStore(directory / DEFERRED)
            self.missing = self.deferred.open(self.journal.lineage)
            self.versions = VersionStore(publication, directory / PUBLIC)
            removed = self.versions.mend(self.journal.lineage)
            _require_whole(directory, self.journal)
            self._adopt_format(directory, found)
            self._note_restore(directory, now())
            self._opened = opened.pop_all()
        if removed:
            self._log.info("leftovers_removed", names=removed)

    def close(self) -> None:
        """Close the log and give the directory back."""
        self._opened.close()

    def _adopt_format(self, directory: Path, found: int) -> None:
        """Mark the directory as ours before anything is written that older ones do not know."""
        if found == STATE_FORMAT:
            return
        write_format(directory)
        if not self.journal.is_new:
            self._log.info("state_upgraded", before=found, now=STATE_FORMAT)

    def _note_restore(self, directory: Path, now: str) -> None:
        """Raise the epoch of a lineage that was put back from a backup.

        The second of the restore is the epoch: two restores of one backup must differ as well.
        """
        marker = directory / MARKER
        if not marker.exists():
            return
        seconds = int(datetime.fromisoformat(now).timestamp())
        epoch = max(self.journal.lineage.epoch + 1, seconds)
        self.journal.record(Restore(epoch=epoch))
        try:
            marker.unlink()
            sync_directory(directory)
        except OSError as error:
            raise StateError(marker, f"cannot be removed: {error.strerror}") from error
        self._log.info("restored", epoch=epoch)

    def _warn_unreadable(self, error: StateError) -> None:
        self._log.warning("checkpoint_unreadable", path=str(error.path), error=error.reason)


def make_state_directory(directory: Path) -> None:
    """Make the directory if there is none, and see that it can be written.

    Raises:
        ConfigurationError: It cannot.
        StateError: It cannot, though it could before: it holds a lineage.
    """
    try:
        make_directory(directory)
        probe = directory / ".tmp-probe"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # whoever holds the directory may have tidied it up
    except OSError as error:
        if (directory / LINEAGE_LOG).exists():
            raise StateError(directory, f"cannot be written: {error.strerror}") from error
        problem = Problem(
            "process.state_directory",
            f"{directory} cannot be written: {error.strerror}; name a directory that can",
        )
        raise ConfigurationError([problem]) from error


def _require_same_log(directory: Path, journal: Journal, newest: StoredCheckpoint | None) -> None:
    if newest is not None and not journal.contains(newest.checkpoint.pin):
        raise StateError(
            directory / LINEAGE_LOG,
            f"does not contain the {newest.checkpoint.pin.num_entries} entries that "
            f"{newest.path.name} relies on: log and checkpoints are of different times; restore "
            "both from one backup",
        )


def _require_whole(directory: Path, journal: Journal) -> None:
    """Refuse what a restore that was cut short has left, rather than begin a new lineage in it."""
    marker = directory / MARKER
    if journal.is_new and marker.exists():
        raise StateError(
            marker,
            "marks a restored backup, but there is no lineage log beside it: empty the directory "
            "and restore again",
        )
