"""Dead letters that their topic refuses for their size, kept in the state directory."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from teacherd.consumers.dead_letters import DeadLetter, KeptLetter
from teacherd.consumers.headers import pack_headers, readable_headers
from teacherd.consumers.record import Partition
from teacherd.daemon.durable import make_directory, sync_directory, write_file
from teacherd.daemon.errors import StateError

_FOLDER = "dead-letters"
_SUFFIX = ".letter"
_MOST_NAME_BYTES, _CUT_NAME_BYTES = 200, 128
"""A topic that is longer is cut, and told by its digest: Kafka's may have 249 letters, and the name
of a file 255 with partition, offset and what a draft's name adds."""
FIRST_NUMBER = 1 << 40
"""Numbers from here on are of letters in files: no topic will ever have so many."""


class LargeLetters:
    """One file for each: a line of JSON that says what it is, then the value, untouched."""

    def __init__(self, state_directory: Path) -> None:
        self._folder = state_directory / _FOLDER

    def keep(self, letter: DeadLetter) -> None:
        """Keep a letter durably; one that is already there is replaced by its like.

        Raises:
            StateError: The disk refused.
        """
        topic, number = letter.origin
        description = {
            "topic": topic,
            "partition": number,
            "offset": letter.offset,
            "stage": letter.stage,
            "reason": letter.reason,
            "message": letter.message,
            "timestamp_ms": letter.timestamp_ms,
            "key": None if letter.key is None else base64.b64encode(letter.key).decode(),
            "headers": [
                [name, base64.b64encode(value).decode()]
                for name, value in readable_headers(letter.headers)
            ],
        }
        make_directory(self._folder)
        write_file(self._path(letter), json.dumps(description).encode() + b"\n" + letter.value)

    def list(self) -> Sequence[KeptLetter]:
        """Return all of them, in the order of their numbers, which do not change.

        Raises:
            StateError: One cannot be read.
        """
        kept = [
            KeptLetter(number=_number(path), letter=_read(path))
            for path in self._folder.glob(f"*{_SUFFIX}")
        ]
        return sorted(kept, key=lambda each: each.number)

    def remove(self, letter: DeadLetter) -> None:
        """Forget a letter, durably.

        Raises:
            StateError: The disk refused.
        """
        path = self._path(letter)
        try:
            path.unlink(missing_ok=True)
            sync_directory(self._folder)
        except OSError as error:
            raise StateError(path, f"cannot be removed: {error.strerror}") from error

    def _path(self, letter: DeadLetter) -> Path:
        topic, number = letter.origin
        return self._folder / f"{_named(topic)}-{number}-{letter.offset}{_SUFFIX}"


def _named(topic: str) -> str:
    """Return what stands for a topic in the name of a file."""
    name = topic.encode()
    if len(name) <= _MOST_NAME_BYTES:
        return topic
    digest = hashlib.sha256(name).hexdigest()
    return f"{name[:_CUT_NAME_BYTES].decode(errors='ignore')}-{digest[:32]}"


def _number(path: Path) -> int:
    """Return a letter's number, which follows from its origin alone."""
    return FIRST_NUMBER + zlib.crc32(path.name.encode())


def _read(path: Path) -> DeadLetter:
    try:
        line, _, value = path.read_bytes().partition(b"\n")
        fields = json.loads(line)
        key = fields["key"]
        headers = tuple((name, base64.b64decode(each)) for name, each in fields["headers"])
        return DeadLetter(
            origin=Partition(fields["topic"], fields["partition"]),
            offset=fields["offset"],
            key=None if key is None else base64.b64decode(key),
            headers=pack_headers(headers),
            value=value,
            stage=fields["stage"],
            reason=fields["reason"],
            message=fields["message"],
            timestamp_ms=fields["timestamp_ms"],
        )
    except OSError as error:
        raise StateError(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(path, f"is no dead letter: {error}; move it away") from error
