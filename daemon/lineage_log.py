"""The lineage log: one append-only file of entries, durable before they take effect.

Each line is JSON with a sequence number and the sha256 of the line before it chained with its own
content, so that one hash stands for the whole log up to there. Whether an entry makes sense after
those before it is the business of daemon/lineage.py.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from teacherd.daemon.durable import failpoint, sync_directory
from teacherd.daemon.entries import ENTRY, Entry
from teacherd.daemon.errors import StateError

_DIGEST_BYTES = 32
_HOLE = bytes(16)
"""What a power cut leaves of a line whose later page has reached the disk and an earlier not."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A place in the log that something else relies on."""

    num_entries: int
    chain: str
    """sha256 chained over the first num_entries lines."""


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry with its place in the log."""

    sequence: int
    written_at: str
    entry: Entry


def read_lineage_log(path: Path) -> list[LoggedEntry]:
    """Return the entries of a log that another process may be appending to; change nothing.

    Raises:
        StateError: It cannot be read, or a line of it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StateError(path, f"cannot be read: {error.strerror}") from error
    content = _read(data)
    # An append in progress, or torn by a crash, has not written its end of line yet.
    if b"\n" in data[content.num_bytes :]:
        raise StateError(path, f"line {len(content.entries) + 1} is damaged")
    return content.entries


def read_prefix(path: Path, pin: Pin | None) -> bytes:
    """Return the lines of a log up to a pin, all whole ones without; change nothing.

    Raises:
        StateError: It cannot be read, or does not contain what is pinned.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StateError(path, f"cannot be read: {error.strerror}") from error
    content = _read(data)
    if pin is None:
        return data[: content.num_bytes]
    if not content.chains.contain(pin):
        raise StateError(path, f"does not contain the {pin.num_entries} entries that are pinned")
    return b"".join(data.splitlines(keepends=True)[: pin.num_entries])


class LineageLog:
    """Reads the whole log once, verified, then appends to it.

    Args:
        path: The file; made when missing.
        now: ISO 8601 time in UTC, for people: nothing is decided by it.
        pinned: Number of entries that a checkpoint relies on. A torn last line beyond them is what
            a crash in `append` leaves, and is cut off.

    Raises:
        StateError: The log is damaged in any other way, or cannot be read.
    """

    def __init__(self, path: Path, *, now: Callable[[], str], pinned: int = 0) -> None:
        self.path = path
        self._now = now
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
            sync_directory(path.parent)
            data = path.read_bytes()
            # A killed process may have written a line and not synced it: it takes effect now.
            os.fsync(self._descriptor)
        except OSError as error:
            raise StateError(path, f"cannot be opened: {error.strerror}") from error
        content = _read(data)
        self._read = content.entries
        self._chains = content.chains
        self._size = content.num_bytes
        if self._size < len(data):
            self._cut_torn_tail(data, pinned)

    @property
    def pin(self) -> Pin:
        """Where the log ends now."""
        return Pin(self._num_entries, self._chains.last)

    def take_entries(self) -> list[LoggedEntry]:
        """Return, once, what the log held when it was opened.

        No entry is kept: they would grow for as long as the lineage lives.
        """
        entries, self._read = self._read, []
        return entries

    def contains(self, pin: Pin) -> bool:
        """Tell whether this log, as it was at the pin, is the beginning of what it is now."""
        return self._chains.contain(pin)

    def append(self, entry: Entry) -> LoggedEntry:
        """Add one entry and return it as logged; it has then reached the disk.

        Raises:
            StateError: It has not; the log is as it was.
        """
        logged = LoggedEntry(self._num_entries, self._now(), entry)
        body = _canonical(logged)
        chain = _chain(self._chains.last, body)
        line = f'{body[:-1]},"chain":"{chain}"}}\n'.encode()
        kind = entry.kind
        failpoint(f"{kind}.before")
        try:
            half = len(line) // 2
            _write_all(self._descriptor, line[:half])
            failpoint(f"{kind}.torn")
            _write_all(self._descriptor, line[half:])
            failpoint(f"{kind}.written")
            os.fsync(self._descriptor)
        except OSError as error:
            # Whether this succeeds or not, the process ends, and the next start reads it anew.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise StateError(self.path, f"cannot be appended to: {error.strerror}") from error
        failpoint(f"{kind}.appended")
        self._size += len(line)
        self._chains.append(chain)
        return logged

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    @property
    def _num_entries(self) -> int:
        return self._chains.num_entries

    def _cut_torn_tail(self, data: bytes, pinned: int) -> None:
        line_number = self._num_entries + 1
        tail = data[self._size :]
        is_last = b"\n" not in tail.rstrip(b"\n")
        is_torn = not tail.endswith(b"\n") or _HOLE in tail
        if not is_last or not is_torn or self._num_entries < pinned:
            raise StateError(
                self.path,
                f"line {line_number} is damaged, and it is no torn last line: restore the state "
                "directory from a backup; nothing was changed",
            )
        os.ftruncate(self._descriptor, self._size)
        os.fsync(self._descriptor)


class _Chains:
    """The hash over the first n lines of a log, for each n.

    32 bytes each: they are held for as long as the log is open, which may be for years.
    """

    def __init__(self) -> None:
        self._digests = bytearray()

    @property
    def num_entries(self) -> int:
        return len(self._digests) // _DIGEST_BYTES

    @property
    def last(self) -> str:
        return self._digests[-_DIGEST_BYTES:].hex()

    def append(self, chain: str) -> None:
        self._digests += bytes.fromhex(chain)

    def contain(self, pin: Pin) -> bool:
        end = pin.num_entries * _DIGEST_BYTES
        start = max(0, end - _DIGEST_BYTES)
        return end <= len(self._digests) and self._digests[start:end].hex() == pin.chain


@dataclass(slots=True)
class _Content:
    """The valid beginning of a log."""

    entries: list[LoggedEntry]
    chains: "_Chains"
    num_bytes: int


def _read(data: bytes) -> _Content:
    """Take in whole, valid lines up to the first that is not."""
    content = _Content([], _Chains(), 0)
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            logged, chain, body = _parse(line)
        except (ValueError, KeyError, TypeError):
            break
        if logged.sequence != len(content.entries) or chain != _chain(content.chains.last, body):
            break
        content.entries.append(logged)
        content.chains.append(chain)
        content.num_bytes += len(line)
    return content


def _parse(line: bytes) -> tuple[LoggedEntry, str, str]:
    text = line.decode().rstrip("\n")
    fields = json.loads(text)
    chain = fields.pop("chain")
    body = text.removesuffix(f',"chain":"{chain}"}}') + "}"
    return LoggedEntry(fields.pop("sequence"), fields.pop("at"), _entry(fields)), chain, body


def _entry(fields: dict[str, object]) -> Entry:
    try:
        return ENTRY.validate_python(fields)
    except ValidationError as error:
        raise ValueError(str(error)) from error


def _canonical(logged: LoggedEntry) -> str:
    fields = {"sequence": logged.sequence, "at": logged.written_at, **asdict(logged.entry)}
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _chain(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
