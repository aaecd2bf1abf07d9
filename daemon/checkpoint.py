"""Checkpoints: where the daemon stands, pinned to a place in the lineage log.

Between tasks a checkpoint only names the head and the log it belongs to: the weights are in the
head's version, and the next task starts from them. Inside a task it holds the learner's state too,
so that a crash repeats seconds. Beside that there are the holdouts in use, one file for each task.
A checkpoint is a folder that appears at once and never changes: `checkpoint.json`,
`holdout-*.safetensors`, `memory.safetensors` where instances are rehearsed, and
`learner.safetensors` inside a task.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from teacherd.consumers.record import Partition
from teacherd.daemon.durable import (
    make_directory,
    remove_folder,
    remove_temporaries,
    write_folder,
)
from teacherd.daemon.errors import StateError
from teacherd.daemon.holdout_files import HoldoutFiles, read_holdouts
from teacherd.daemon.holdout_split import Holdout
from teacherd.daemon.lineage_log import Pin
from teacherd.daemon.memory_file import MemoryFile, StoredMemory, read_memory
from teacherd.models.memory import Memory

CHECKPOINT_FORMAT = 1
METADATA = "checkpoint.json"
LEARNER = "learner.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When checkpoints are written."""

    interval_seconds: float = 30.0
    """Longest work that a crash inside a task repeats, unless writing takes more than 2 % of it:
    then they come so much less often."""
    interval_steps: int | None = None
    """One after so many steps as well, whatever that costs; null goes by the clock alone."""
    keep: int = 3
    """Newest checkpoints kept; more than one, so that a damaged one has a predecessor."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.interval_seconds <= 0:
            raise ValueError(f"interval_seconds: {self.interval_seconds} is not above 0; take 30")
        if self.interval_steps is not None and self.interval_steps < 1:
            raise ValueError(
                f"interval_steps: {self.interval_steps} is less than 1; null goes by the clock"
            )
        if self.keep < 1:
            raise ValueError(f"keep: {self.keep} is less than 1; take 3")


class Place(NamedTuple):
    """Where a partition stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What one checkpoint says."""

    lineage: str
    pin: Pin
    head: int
    task: int | None = None
    """The task in progress, None between tasks."""
    step: int = 0
    """Optimizer steps of that task that are contained."""
    places: tuple[Place, ...] = ()
    """Records from here on are needed, should this be the newest checkpoint that is readable."""
    learner_sha256: str | None = None
    holdouts: dict[str, str] = field(default_factory=dict)
    """By file, the sha256 of a task's holdout."""
    memory_sha256: str | None = None
    """Of the rehearsal memory's file; None for an empty one."""
    checksum: str | None = None
    """Of all the rest; 0.1.0 wrote none."""
    format: int = CHECKPOINT_FORMAT


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint read back and verified."""

    checkpoint: Checkpoint
    learner_state: dict[str, Tensor] | None
    path: Path
    holdouts: dict[int, Holdout] = field(default_factory=dict)
    """By task."""
    memory: StoredMemory = field(default_factory=StoredMemory)
    """The newest that is readable, be it of an earlier checkpoint."""


_ADAPTER: TypeAdapter[Checkpoint] = TypeAdapter(Checkpoint)


class CheckpointStore:
    """Writes checkpoints into a directory and keeps the newest few."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self._directory = directory
        self._keep = keep
        self._files = HoldoutFiles()
        self._memory_file = MemoryFile()
        try:
            make_directory(directory)
            remove_temporaries(directory)
        except OSError as error:
            raise StateError(directory, f"cannot be used: {error.strerror}") from error

    def save(
        self,
        checkpoint: Checkpoint,
        learner_state: Mapping[str, Tensor] | None = None,
        holdouts: Mapping[int, Holdout] | None = None,
        memory: Memory | None = None,
    ) -> int:
        """Write a checkpoint durably, then drop the oldest; return its size in bytes.

        Raises:
            StateError: The disk refused; earlier checkpoints are untouched.
        """
        number = max(self._numbers(), default=0) + 1
        data = None if learner_state is None else safetensors.torch.save(dict(learner_state))
        if data is not None:
            checkpoint = replace(checkpoint, learner_sha256=hashlib.sha256(data).hexdigest())

        def fill(folder: Path) -> None:
            digests = self._files.write(folder, self._path(number), holdouts or {})
            sha256 = self._memory_file.write(folder, self._path(number), memory or Memory())
            fields = asdict(replace(checkpoint, holdouts=digests, memory_sha256=sha256))
            fields["checksum"] = _checksum(fields)
            (folder / METADATA).write_bytes(json.dumps(fields, indent=1).encode())
            if data is not None:
                (folder / LEARNER).write_bytes(data)

        write_folder(self._path(number), fill, name="checkpoint")
        for old in self._numbers()[: -self._keep]:
            # One that stays takes room and harms nothing.
            with contextlib.suppress(OSError):
                remove_folder(self._path(old))
        return sum(file.stat().st_size for file in self._path(number).iterdir())

    def needed_from(self) -> dict[Partition, int]:
        """Return from where on records may have to be read again, whichever checkpoint is used.

        Partitions that one of the checkpoints does not know are left out: all of them is needed.
        """
        known = [places for each in self._numbers() if (places := self._places(each)) is not None]
        partitions = set.intersection(*map(set, known)) if known else set()
        return {each: min(places[each] for places in known) for each in partitions}

    def _places(self, number: int) -> dict[Partition, int] | None:
        """Return what a checkpoint needs, None where it cannot be read and so needs nothing."""
        try:
            checkpoint = _ADAPTER.validate_json((self._path(number) / METADATA).read_bytes())
        except (OSError, ValidationError):
            return None
        return {Partition(each.topic, each.partition): each.offset for each in checkpoint.places}

    def load_newest(self, on_unreadable: Callable[[StateError], None]) -> StoredCheckpoint | None:
        """Return the newest checkpoint that can be verified, None where there is none at all.

        Args:
            on_unreadable: Told of each newer one that had to be passed over.

        Raises:
            StateError: There are checkpoints, and none of them is readable.
        """
        last_error = None
        for number in reversed(self._numbers()):
            try:
                stored = self._load(self._path(number))
            except StateError as error:
                on_unreadable(error)
                last_error = error
            else:
                digests = stored.checkpoint.holdouts
                # One that is damaged can be gathered again from the records.
                holdouts = read_holdouts(stored.path, digests, on_unreadable)
                memory = self._newest_memory(number, on_unreadable)
                return replace(stored, holdouts=holdouts, memory=memory)
        if last_error is not None:
            raise last_error
        return None

    def _newest_memory(
        self, newest: int, on_unreadable: Callable[[StateError], None]
    ) -> StoredMemory:
        """Return the memory of a checkpoint or, where it is damaged, of one before."""
        for number in reversed([each for each in self._numbers() if each <= newest]):
            path = self._path(number)
            with contextlib.suppress(OSError, ValidationError):
                checkpoint = _ADAPTER.validate_json((path / METADATA).read_bytes())
                try:
                    state = read_memory(path, checkpoint.memory_sha256)
                except StateError as error:
                    on_unreadable(error)
                else:
                    return StoredMemory(state, checkpoint.pin.num_entries)
        return StoredMemory()

    def _load(self, path: Path) -> StoredCheckpoint:
        try:
            metadata = (path / METADATA).read_bytes()
            checkpoint = _ADAPTER.validate_json(metadata)
            if checkpoint.checksum not in {None, _checksum(json.loads(metadata))}:
                raise StateError(path / METADATA, "does not have the checksum that it names")
            if checkpoint.format != CHECKPOINT_FORMAT:
                raise StateError(path, f"has format {checkpoint.format}, not {CHECKPOINT_FORMAT}")
            if checkpoint.learner_sha256 is None:
                return StoredCheckpoint(checkpoint, None, path)
            data = (path / LEARNER).read_bytes()
            if hashlib.sha256(data).hexdigest() != checkpoint.learner_sha256:
                raise StateError(
                    path / LEARNER, "does not have the sha256 that it was written with"
                )
            return StoredCheckpoint(checkpoint, safetensors.torch.load(data), path)
        except (OSError, ValidationError, SafetensorError) as error:
            raise StateError(path, f"is unreadable: {error}") from error

    def _numbers(self) -> list[int]:
        try:
            names = [path.name for path in self._directory.iterdir()]
        except OSError as error:
            raise StateError(self._directory, f"cannot be read: {error.strerror}") from error
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}"


def _checksum(fields: Mapping[str, Any]) -> str:
    """Return the digest of a checkpoint's fields, but for the checksum itself."""
    covered = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
