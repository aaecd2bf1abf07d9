"""Tests of a user's own decoder: what it is given, what it may return, what it may not."""

import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
from decoded import array, decode, decoder, reason
from records import (
    at_offsets,
)

from teacherd.consumers.decoding import Decoder
from teacherd.consumers.record import NewRecord, Record


@pytest.fixture
def own_decoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Record], object]], Decoder]:
    """Build a decoder around the user's function, importable as own_formats.read."""

    def build(function: Callable[[Record], object]) -> Decoder:
        module = types.ModuleType("own_formats")
        module.read = function
        monkeypatch.setitem(sys.modules, "own_formats", module)
        return decoder(input_shape=(2,), decoder="own_formats:read")

    return build


def test_the_users_own_decoder_sees_the_record(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """It gets key, headers and value, and returns array and label; id and time still count."""
    made = own_decoder(lambda record: (np.frombuffer(record.value, "<f4"), record.key.decode()))
    headers = (("id", b"x"), ("event-time", b"5"))

    result = decode(made, NewRecord(np.array([1, 2], "<f4").tobytes(), headers, b"3"))

    assert [1, 2] == array(result).tolist()
    assert (3, b"x", 5) == (result.label, result.id, result.event_time_ms)


@pytest.mark.parametrize("label", [4, "4", np.int64(4), np.uint8(4)])
def test_the_users_decoder_may_name_the_class_or_number_it(
    own_decoder: Callable[[Callable[[Record], object]], Decoder], label: object
) -> None:
    """With Python's integers or numpy's."""
    assert 4 == decode(own_decoder(lambda _: (np.zeros(2), label)), NewRecord(b"x")).label


def test_the_users_decoder_may_use_the_same_memory_again(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """What it returned for one record is not changed by the next."""
    memory = np.zeros(2, np.float32)

    def read(record: Record) -> object:
        memory[:] = record.offset
        return memory, 0

    batch = own_decoder(read).decode_batch(at_offsets([NewRecord(b"x")] * 3))

    assert [[1, 1], [2, 2], [3, 3]] == [each.array.tolist() for each in batch]


def test_the_users_decoder_alone_says_what_a_label_means(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """A header that is none of the classes may stand for one."""
    made = own_decoder(lambda record: (np.zeros(2), len(dict(record.headers)["label"])))

    assert 4 == decode(made, NewRecord(b"x", (("label", b"four"),))).label


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ((np.zeros(2), 10**5000), "unknown_label"),
        (None, "decoder_error"),
        ((1, 2), "decoder_error"),
        ((np.zeros(2), None), "decoder_error"),
        ((np.zeros(2), True), "decoder_error"),
        ((np.zeros(3), 1), "wrong_shape"),
        ((np.zeros(2), 10), "unknown_label"),
        ((np.array([None, None]), 1), "pickle"),
        ((np.array(["a", "b"]), 1), "wrong_dtype"),
        ((np.array([1, np.nan]), 1), "not_finite"),
    ],
)
def test_what_the_users_decoder_returns_is_checked(
    own_decoder: Callable[[Callable[[Record], object]], Decoder], returned: object, expected: str
) -> None:
    """It cannot bring in what the built-in formats could not."""
    assert expected == reason(decode(own_decoder(lambda _: returned), NewRecord(b"x")))


def test_whatever_the_users_decoder_raises_is_a_rejection(
    own_decoder: Callable[[Callable[[Record], object]], Decoder],
) -> None:
    """The message says what and where, not what it was about."""

    def read(record: Record) -> object:
        raise LookupError(record.value)

    result = decode(own_decoder(read), NewRecord(b"SECRET"))

    assert "decoder_error" == reason(result)
    assert "LookupError at test_custom_decoder.py:" in result.message
    assert "SECRET" not in result.message


@pytest.mark.parametrize("path", ["no_such_module:read", "json:no_such_name", "json:__doc__"])
def test_a_decoder_that_cannot_be_had_is_told_at_the_start(path: str) -> None:
    """The message names the key and the value."""
    with pytest.raises(ValueError, match=f"decoder: '{path}'"):
        decoder(decoder=path)
