"""Dead letters that their topic refuses for their size, kept in the state directory."""

import base64
import json
from pathlib import Path

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import readable_headers
from teacherd.daemon.durable import make_directory, write_file

_FOLDER = "dead-letters"


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
        path = self._folder / f"{topic}-{number}-{letter.offset}.letter"
        write_file(path, json.dumps(description).encode() + b"\n" + letter.value)
