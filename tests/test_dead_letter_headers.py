"""What a dead letter's headers say, and that the record's own come back untouched."""

from dataclasses import replace

from teacherd.consumers.dead_letter_headers import (
    letter_headers,
    read_letter,
    requeued_headers,
    requeued_origin,
)
from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import pack_headers
from teacherd.consumers.record import Partition, Record

ORIGIN = Partition("instances", 2)
LETTER = DeadLetter(
    origin=ORIGIN,
    offset=41,
    key=b"key",
    headers=pack_headers((("label", b"cat"), ("label", b"dog"))),
    value=b"value",
    stage="decoding",
    reason="malformed",
    message="is none",
    timestamp_ms=1234,
)


def as_record(letter: DeadLetter) -> Record:
    """Return the record of the topic that a letter becomes."""
    headers = letter_headers(letter)
    return Record(Partition("instances.dlq", 0), 7, letter.key, headers, letter.value, 99)


def test_a_letter_comes_back_as_it_went() -> None:
    """Also with a key that is null."""
    assert LETTER == read_letter(as_record(LETTER))

    without_key = replace(LETTER, key=None, headers=b"")

    assert without_key == read_letter(as_record(without_key))


def test_a_message_is_cut_to_size() -> None:
    """The reason stays whole."""
    letter = read_letter(as_record(replace(LETTER, message="m" * 5000)))

    assert letter is not None
    assert ("malformed", 1000) == (letter.reason, len(letter.message))


def test_what_others_wrote_is_no_letter() -> None:
    """It is left where it lies."""
    record = as_record(LETTER)

    assert read_letter(record._replace(headers=())) is None
    assert read_letter(record._replace(headers=record.headers[:-1])) is None


def test_a_mark_names_whose_it_is() -> None:
    """And is neither a letter, nor is a letter a mark."""
    headers = requeued_headers((ORIGIN, 41))

    assert (ORIGIN, 41) == requeued_origin(headers)
    assert requeued_origin(letter_headers(LETTER)) is None
    assert read_letter(as_record(LETTER)._replace(headers=headers)) is None
