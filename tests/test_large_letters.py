"""Letters that are too large for their topic: one file each, with all that they held."""

import base64
import json
from pathlib import Path

import pytest

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.record import Partition
from teacherd.daemon.errors import StateError
from teacherd.daemon.large_letters import FIRST_NUMBER, LargeLetters

ORIGIN = Partition("instances", 2)


def make_letter(offset: int = 41, origin: Partition = ORIGIN) -> DeadLetter:
    """Return a letter with bytes that are no text in key and value."""
    return DeadLetter(
        origin=origin,
        offset=offset,
        key=b"\xff",
        headers=pack_headers((("label", b"cat"),)),
        value=b"a\nvalue\0",
        stage="decoding",
        reason="malformed",
        message="is none",
        timestamp_ms=1234,
    )


def test_a_letter_is_kept_whole(tmp_path: Path) -> None:
    """A line of JSON that says what it is, then the value; a second copy replaces the first."""
    letter = make_letter()
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


def test_letters_are_listed_as_they_were_under_numbers_that_stay(tmp_path: Path) -> None:
    """Whichever others are taken away; a topic's own letters never have such numbers."""
    letters = LargeLetters(tmp_path)
    assert [] == letters.list()
    for offset in (41, 42, 43):
        letters.keep(make_letter(offset))
    listed = letters.list()

    assert [41, 42, 43] == sorted(kept.letter.offset for kept in listed)
    assert all(kept.letter == make_letter(kept.letter.offset) for kept in listed)
    assert all(kept.number >= FIRST_NUMBER for kept in listed)

    letters.remove(listed[0].letter)

    assert listed[1:] == letters.list()


def test_letters_of_the_longest_topics_are_kept_apart(tmp_path: Path) -> None:
    """Kafka's names have up to 249 letters, and those of files with all around them 255 bytes."""
    topics = ["t" * 249, "t" * 248 + "u", "t" * 201, "\xfc" * 200]
    origins = [Partition(topic, 2**31 - 1) for topic in topics]
    letters = LargeLetters(tmp_path)
    for origin in origins:
        letters.keep(make_letter(2**63 - 1, origin))

    assert set(origins) == {kept.letter.origin for kept in letters.list()}

    letters.remove(make_letter(2**63 - 1, origins[0]))

    assert set(origins[1:]) == {kept.letter.origin for kept in letters.list()}


@pytest.mark.parametrize("damaged", [b"", b"{}\n", b"[1]\nvalue", b"\xff\nvalue"])
def test_a_file_that_is_no_letter_is_named(tmp_path: Path, damaged: bytes) -> None:
    """Somebody may lay anything there."""
    (tmp_path / "dead-letters").mkdir()
    (tmp_path / "dead-letters" / "a-0-1.letter").write_bytes(damaged)

    with pytest.raises(StateError, match=r"a-0-1\.letter.*is no dead letter"):
        LargeLetters(tmp_path).list()
