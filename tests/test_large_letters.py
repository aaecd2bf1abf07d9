"""Letters that are too large for their topic: one file each, with all that they held."""

import base64
import json
from pathlib import Path

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.record import Partition
from teacherd.daemon.large_letters import LargeLetters


def test_a_letter_is_kept_whole(tmp_path: Path) -> None:
    """A line of JSON that says what it is, then the value; a second copy replaces the first."""
    letter = DeadLetter(
        origin=Partition("instances", 2),
        offset=41,
        key=b"\xff",
        headers=pack_headers((("label", b"cat"),)),
        value=b"a\nvalue\0",
        stage="decoding",
        reason="malformed",
        message="is none",
        timestamp_ms=1234,
    )
    letters = LargeLetters(tmp_path)
    letters.keep(letter)
    letters.keep(letter)
    (path,) = (tmp_path / "dead-letters").iterdir()
    description, _, value = path.read_bytes().partition(b"\n")
    found = json.loads(description)

    assert "instances-2-41.letter" == path.name
    assert letter.value == value
    assert ("malformed", 41) == (found["reason"], found["offset"])
    assert b"\xff" == base64.b64decode(found["key"])
    assert [["label", base64.b64encode(b"cat").decode()]] == found["headers"]
