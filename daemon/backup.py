"""Backups: a copy of a lineage that can be started from, made beside a running daemon.

A backup is a folder that appears at once: `state/`, a state directory as it was at its newest
checkpoint, and `stream.db` where the stream log was asked for. `state/backup.json` lists every file
with its sha256 and marks the copy as one: whoever starts from it raises the lineage's epoch.
"""

import contextlib
import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from teacherd.consumers.record import Partition
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.consumers.stream_log_copy import copy_stream_log
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.checkpoint import CheckpointStore
from teacherd.daemon.deferred_store import DeferredStore, file_name, tasks_needed
from teacherd.daemon.durable import TEMPORARY_PREFIX, is_abandoned, write_folder
from teacherd.daemon.errors import StateError, UnavailableError, UsageError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_log import Pin, read_prefix
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.daemon.publication import PublicationConfig, VersionStore
from teacherd.daemon.state_directory import CHECKPOINTS, DEFERRED, LINEAGE_LOG, MARKER, PUBLIC
from teacherd.daemon.state_format import require_known_format
from teacherd.models.artifact import version_folder

STATE = "state"
STREAM_LOG = "stream.db"
_ATTEMPTS = 5
_NOT_COPIED = {"lock", LINEAGE_LOG, CHECKPOINTS, DEFERRED, PUBLIC, MARKER}


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupContent:
    """What a backup says of itself."""

    lineage: str
    created_at: str
    teacherd: str
    tasks: int
    head: int
    current: int | None
    places: dict[str, int]
    """Where each partition goes on after a restore: records from there must still be there."""
    files: dict[str, str]
    """sha256 of every file by its path in the backup, but for the one that holds this."""


_ADAPTER: TypeAdapter[BackupContent] = TypeAdapter(BackupContent)


def make_backup(
    source: Path,
    out: Path,
    *,
    stream_log: StreamLogConfig | None,
    all_versions: bool,
    now: str,
    on_progress: Callable[[int, int], None],
) -> BackupContent:
    """Copy a lineage into a folder that appears once it is whole and verified.

    Args:
        source: State directory; a daemon may be running in it.
        out: Must not exist.
        stream_log: What to copy besides; None leaves the records where they are.
        all_versions: Take every version that is on disk, not only those that learning needs.
        now: ISO 8601 time in UTC.
        on_progress: Told how many of how many versions are copied.

    Raises:
        UsageError: There is no lineage, or the place is taken.
        StateError: What was copied cannot be verified, or a disk refused.
        UnavailableError: The stream log cannot be copied.
    """
    _require_possible(source, out)

    def fill(folder: Path) -> BackupContent:
        lineage = _Copy(source, folder / STATE, all_versions, on_progress).make()
        if stream_log is not None:
            copy_records(stream_log, folder / STREAM_LOG, lineage)
        return _describe(folder, lineage, now)

    _remove_abandoned(out.absolute())
    return write_folder(out, fill, name="backup")


def read_backup(backup: Path) -> BackupContent:
    """Return what a backup says of itself, once every file of it is as it was written.

    Raises:
        UsageError: It is no backup.
        StateError: It is damaged.
        ConfigurationError: It is of a newer teacherd.
    """
    path = backup / STATE / MARKER
    if not path.is_file():
        raise UsageError(f"{backup} is no backup: it holds no {STATE}/{MARKER}")
    require_known_format(backup / STATE)
    try:
        content = _ADAPTER.validate_json(path.read_bytes())
        found = _digests(backup)
    except (OSError, ValidationError) as error:
        raise StateError(path, f"cannot be read: {error}") from error
    for name in sorted(found.keys() | content.files.keys()):
        if found.get(name) != content.files.get(name):
            raise StateError(backup / name, "is not what was backed up; take another backup")
    return content


def copy_records(config: StreamLogConfig, path: Path, lineage: Lineage) -> None:
    """Copy the stream log, and see that it holds what a restored lineage would go on with.

    Raises:
        UnavailableError: It cannot be read, or retention was faster.
    """
    try:
        deleted_below = copy_stream_log(Path(config.path), path)
    except (SourceError, StreamLogError) as error:
        raise UnavailableError(str(error)) from error
    needed = places_needed(lineage).get(Partition(config.topic, 0))
    if needed is not None and needed < deleted_below:
        raise UnavailableError(
            f"{config.path}: offsets [{needed}, {deleted_below}) were deleted while it was copied; "
            "raise stream_log.retention_hours or retention_bytes, and try again"
        )


def places_needed(lineage: Lineage) -> dict[Partition, int]:
    """Return from where on the records must be there to go on: an unfinished plan's, or beyond."""
    needed = dict(lineage.places)
    if lineage.unfinished is not None:
        for closed in lineage.unfinished.ranges:
            needed[Partition(closed.topic, closed.partition)] = closed.start
    return needed


class _Copy:
    """One copy of a state directory; begun again when the daemon has moved on under it."""

    def __init__(
        self,
        source: Path,
        target: Path,
        all_versions: bool,  # noqa: FBT001 (passed on by name)
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._source = source
        self._target = target
        self._all_versions = all_versions
        self._on_progress = on_progress

    def make(self) -> Lineage:
        """Copy and verify; return the lineage as the copy has it.

        Raises:
            StateError: What lies there cannot be verified, however often it is copied.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            shutil.rmtree(self._target, ignore_errors=True)
            self._target.mkdir()
            try:
                return self._try()
            except FileNotFoundError as error:
                # A checkpoint or version was dropped in favour of newer ones.
                if attempt == _ATTEMPTS:
                    raise StateError(self._source, f"cannot be copied: {error}") from error
            except StateError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _try(self) -> Lineage:
        for path in self._source.iterdir():
            if path.name not in _NOT_COPIED and not path.name.startswith(TEMPORARY_PREFIX):
                _copy(path, self._target / path.name)
        # First what relies, then what it relies on: the log only grows, versions only come later.
        pin = self._copy_checkpoint()
        lineage = self._copy_log(pin)
        self._copy_deferred(lineage)
        self._copy_versions(lineage)
        return lineage

    def _copy_deferred(self, lineage: Lineage) -> None:
        """Copy the records that the lineage, as the copy has it, has deferred."""
        target = self._target / DEFERRED
        for task in sorted(tasks_needed(lineage)):
            target.mkdir(exist_ok=True)
            _copy(self._source / DEFERRED / file_name(task), target / file_name(task))
        missing = DeferredStore(target).open(lineage)
        if missing:
            raise StateError(self._source / DEFERRED, f"lacks {len(missing)} deferred records")

    def _copy_checkpoint(self) -> Pin | None:
        """Copy the newest checkpoint that is readable; return the log it belongs to."""
        source, target = self._source / CHECKPOINTS, self._target / CHECKPOINTS
        target.mkdir()
        names = [path.name for path in source.iterdir()] if source.is_dir() else []
        numbers = sorted((name for name in names if name.isdecimal()), key=int, reverse=True)
        for name in numbers:
            _copy(source / name, target / name)
            unreadable: list[StateError] = []
            try:
                stored = CheckpointStore(target, keep=1).load_newest(unreadable.append)
            except StateError:
                shutil.rmtree(target / name)
                if name == numbers[-1]:
                    raise
            else:
                return stored.checkpoint.pin if stored else None
        return None

    def _copy_log(self, pin: Pin | None) -> Lineage:
        """Copy the log up to the checkpoint's place in it, all of it where there is none."""
        lines = read_prefix(self._source / LINEAGE_LOG, pin)
        (self._target / LINEAGE_LOG).write_bytes(lines)
        return read_lineage(self._target)[1]

    def _copy_versions(self, lineage: Lineage) -> None:
        source, target = self._source / PUBLIC, self._target / PUBLIC
        store = VersionStore(PublicationConfig(), target)
        wanted = sorted(lineage.versions) if self._all_versions else sorted(lineage.pinned)
        for place, version in enumerate(wanted, start=1):
            folder = version_folder(source, version)
            if version in lineage.pinned or folder.is_dir():
                _copy(folder, version_folder(target, version))
                store.load(version, lineage.versions[version].sha256)
            self._on_progress(place, len(wanted))


def _require_possible(source: Path, out: Path) -> None:
    read_lineage(source)
    if out.exists():
        raise UsageError(f"{out} exists already; name a folder that does not, such as {out}-2")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out.absolute().parent} is no folder; make it, or name another")


def _remove_abandoned(out: Path) -> None:
    """Remove what backups into the same folder left when they were killed, whatever their names."""
    for draft in out.parent.glob(f"{TEMPORARY_PREFIX}*-*"):
        is_ours = (draft / STATE).is_dir() or draft.name.startswith(
            f"{TEMPORARY_PREFIX}{out.name}-"
        )
        with contextlib.suppress(OSError):  # what will not go takes room and harms nothing
            if is_ours and draft.is_dir() and is_abandoned(draft):
                shutil.rmtree(draft)


def _describe(folder: Path, lineage: Lineage, now: str) -> BackupContent:
    content = BackupContent(
        lineage=lineage.id,
        created_at=now,
        teacherd=package_version("teacherd"),
        tasks=lineage.num_tasks,
        head=lineage.head,
        current=lineage.current,
        places={f"{topic}/{number}": at for (topic, number), at in lineage.places.items()},
        files=_digests(folder),
    )
    text = json.dumps(asdict(content), indent=1) + "\n"
    (folder / STATE / MARKER).write_text(text, encoding="utf-8")
    return content


def _digests(backup: Path) -> dict[str, str]:
    found = {}
    for path in sorted(backup.rglob("*")):
        name = path.relative_to(backup).as_posix()
        if path.is_file() and name != f"{STATE}/{MARKER}":
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _copy(path: Path, target: Path) -> None:
    """Copy a file or folder; what is neither, such as a socket, is of no use in a copy."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        target.mkdir()
        for each in sorted(path.iterdir()):
            _copy(each, target / each.name)
    elif stat.S_ISREG(mode):
        shutil.copy(path, target)
