"""The payloads of deferred records: durable before the plan that defers them, and for its task.

A file for each task that deferred some, `000012.jsonl`, a line of JSON for each record as it came.
What is still needed follows from the lineage log; a file goes with the last of its records.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.deferred_offsets import DeferredIdentity, DeferredLostError, identities
from teacherd.daemon.durable import (
    failpoint,
    make_directory,
    remove_temporaries,
    sync_directory,
    write_file,
)
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.record_lines import encode, read_record, write_line

_SUFFIX = ".jsonl"
_DIGEST_BYTES = 16
_MOST_GONE_SHARE = 0.5
"""Of a file's bytes: with more of them gone it is written anew without."""


@dataclass(frozen=True, slots=True)
class DeferredRecord:
    """What is known of one deferred record without reading its payload."""

    identity: DeferredIdentity
    name: str
    """Its label."""
    id: bytes | None
    """The producer's."""
    line: bytes | None
    """As it is to be written; None where it has been."""
    num_bytes: int
    """On the disk."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a record lies in its file."""

    start: int
    num_bytes: int
    digest: bytes


class DeferredStore:
    """Owns `deferred/` of a state directory, which is made with the first record in it.

    Of the learning thread; records may be read by the source's, too, for a task that is tried again
    while others are learned.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records: dict[DeferredIdentity, DeferredRecord] = {}
        self._lines: dict[DeferredIdentity, _Line] = {}
        self._of_tasks: dict[int, set[DeferredIdentity]] = {}
        self._sizes: dict[int, int] = {}
        """Of the files, by task."""
        self._lock = threading.Lock()
        """Held while a file and what is known of it are not of one time."""

    @property
    def records(self) -> Mapping[DeferredIdentity, DeferredRecord]:
        """What is kept."""
        return self._records

    def open(self, lineage: Lineage) -> list[DeferredIdentity]:
        """Read what is there; return what is needed and missing.

        What is needed no more stays until `keep`: a rehearsal memory may have to be filled with it.

        Raises:
            StateError: The disk refused.
        """
        if self._directory.is_dir():
            try:
                remove_temporaries(self._directory)
                for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
                    self._index(int(path.stem), path.read_bytes())
            except OSError as error:
                raise StateError(self._directory, f"cannot be read: {error.strerror}") from error
        return sorted(_needed(lineage) - self._records.keys())

    def put(self, task: int, records: Sequence[DeferredRecord]) -> None:
        """Make records durable that the next plan defers; what the task has there already stays.

        Raises:
            StateError: The disk refused; nothing has changed.
        """
        if not records:
            return
        if not self._directory.is_dir():
            try:
                make_directory(self._directory)
            except OSError as error:
                raise StateError(self._directory, f"cannot be made: {error.strerror}") from error
        new = {each.identity for each in records}
        kept = [each for each in self._of_task(task) if each not in new]
        lines = [*(self._read(each) for each in kept), *(each.line or b"" for each in records)]
        failpoint("deferred.before")
        with self._lock:
            self._replace(task, b"".join(lines))
        failpoint("deferred.durable")

    def batches(self, wanted: Iterable[DeferredIdentity]) -> Iterator[RecordBatch]:
        """Yield records one by one, as they came; for any thread.

        Raises:
            DeferredLostError: One of them is not there.
            StateError: One of them is not what was written.
        """
        for identity in wanted:
            with self._lock:
                if identity not in self._lines:
                    raise DeferredLostError(
                        f"{identity.partition.topic}/{identity.partition.number} offset "
                        f"{identity.offset}, deferred by task {identity.task}, is gone"
                    )
                line = self._read(identity)
            yield read_record(json.loads(line))

    def keep(self, lineage: Lineage) -> None:
        """Let go of what no plan waits for, nor has taken in without having been accepted.

        Raises:
            StateError: The disk refused.
        """
        needed = _needed(lineage)
        with self._lock:
            self._keep(needed)

    def _keep(self, needed: AbstractSet[DeferredIdentity]) -> None:
        gone = self._records.keys() - needed
        for identity in gone:
            self._forget(identity)
        changed = {identity.task for identity in gone} | (
            self._sizes.keys() - self._of_tasks.keys()
        )
        try:
            for task in sorted(changed):
                self._tidy(task)
        except OSError as error:
            raise StateError(self._directory, f"cannot be tidied up: {error.strerror}") from error

    def _tidy(self, task: int) -> None:
        """Remove a task's file if nothing of it is needed; write it anew if little is."""
        kept = self._of_task(task)
        if not kept:
            self._path(task).unlink(missing_ok=True)
            sync_directory(self._directory)
            del self._sizes[task]
            failpoint("deferred.removed")
            return
        num_bytes = sum(self._lines[each].num_bytes for each in kept)
        if num_bytes < self._sizes[task] * (1 - _MOST_GONE_SHARE):
            self._replace(task, b"".join(map(self._read, kept)))

    def _replace(self, task: int, data: bytes) -> None:
        write_file(self._path(task), data)
        for identity in self._of_task(task):
            self._forget(identity)
        self._index(task, data)

    def _forget(self, identity: DeferredIdentity) -> None:
        del self._records[identity], self._lines[identity]
        its = self._of_tasks[identity.task]
        its.discard(identity)
        if not its:
            del self._of_tasks[identity.task]

    def _index(self, task: int, data: bytes) -> None:
        """Note what a file holds; a line that cannot be read is as good as not there."""
        self._sizes[task] = len(data)
        start = 0
        for line in data.splitlines(keepends=True):
            record = _parse(task, line)
            if record is not None:
                digest = _digest(line)
                self._records[record.identity] = record
                self._of_tasks.setdefault(task, set()).add(record.identity)
                self._lines[record.identity] = _Line(start, len(line), digest)
            start += len(line)

    def _read(self, identity: DeferredIdentity) -> bytes:
        place, path = self._lines[identity], self._path(identity.task)
        try:
            with path.open("rb") as file:
                file.seek(place.start)
                line = file.read(place.num_bytes)
        except OSError as error:
            raise StateError(path, f"cannot be read: {error.strerror}") from error
        if _digest(line) != place.digest:
            raise StateError(path, f"is not what was written, at byte {place.start}")
        return line

    def _of_task(self, task: int) -> list[DeferredIdentity]:
        return sorted(self._of_tasks.get(task, ()))

    def _path(self, task: int) -> Path:
        return self._directory / file_name(task)


def file_name(task: int) -> str:
    """Return what the file of a task's deferred records is called."""
    return f"{task:06d}{_SUFFIX}"


def tasks_needed(lineage: Lineage) -> set[int]:
    """Return the tasks whose files are needed."""
    return {identity.task for identity in _needed(lineage)}


def new_record(task: int, name: str, id_: bytes | None, batch: RecordBatch) -> DeferredRecord:
    """Return a record that is to be deferred by a task's plan.

    Args:
        task: Its number.
        name: The record's label.
        id_: The producer's.
        batch: The record alone.
    """
    text = write_line(batch, 0, label=name, id=None if id_ is None else encode(id_))
    fields = text[1:-2]
    digest = _digest(fields.encode()).hex()
    line = f'{{"digest":"{digest}",{fields}}}\n'.encode()
    identity = DeferredIdentity(task, batch.partition, batch.offsets[0])
    return DeferredRecord(identity, name, id_, line, len(line))


def named_records(
    task: int, cut: BufferedTask, *, among: Collection[str]
) -> Iterator[DeferredRecord]:
    """Yield the records of a task that have one of some labels, as they would be deferred.

    Args:
        task: Its number.
        cut: As it was cut from the stream.
        among: The labels, none of version 0's classes.
    """
    if not among:
        return
    labels = cut.labels.tolist()
    places = {
        identity: place for place, identity in enumerate(cut.identities()) if labels[place] < 0
    }
    for batch in cut.named_records:
        for number, offset in enumerate(batch.offsets):
            place = places[batch.partition, offset]
            name = cut.names[-1 - labels[place]]
            if name in among:
                yield new_record(task, name, cut.ids[place], batch.part(number, number + 1))


def _parse(task: int, line: bytes) -> DeferredRecord | None:
    """Return what a line says, None where it is damaged."""
    try:
        fields = json.loads(line)
        start = len('{"digest":"') + 2 * _DIGEST_BYTES + len('",')
        if _digest(line[start:-2]).hex() != fields["digest"]:
            return None
        batch = read_record(fields)
        id_ = None if fields["id"] is None else base64.b64decode(fields["id"])
        name = str(fields["label"])
    except (ValueError, KeyError, TypeError):
        return None
    identity = DeferredIdentity(task, batch.partition, batch.offsets[0])
    return DeferredRecord(identity, name, id_, None, len(line))


def _needed(lineage: Lineage) -> set[DeferredIdentity]:
    """Return what still waits, and what plans have taken in that may be learned from once more."""
    open_plans = [aside.plan for aside in lineage.set_aside.values()]
    if lineage.unfinished is not None:
        open_plans.append(lineage.unfinished)
    return {*lineage.deferred, *identities(each for plan in open_plans for each in plan.taken)}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
