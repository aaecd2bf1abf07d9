"""Strict JSON: what is not exactly asked for is refused, with key and value."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacherd.models.strict_json import OPTIONAL, StrictJsonError, parse


@dataclass(frozen=True)
class Inner:
    """A nested object that refuses zero."""

    count: int

    def __post_init__(self) -> None:
        if self.count == 0:
            raise ValueError("count: 0: must be above 0")


@dataclass(frozen=True)
class Outer:
    """One field of each annotation that is understood."""

    name: str
    ratio: float
    flag: bool
    maybe: int | None
    inner: Inner
    numbers: tuple[float, ...]
    options: dict[str, bool | int | float | str]
    anything: dict[str, Any]


GOOD: dict[str, Any] = {
    "name": "a",
    "ratio": 1,
    "flag": True,
    "maybe": None,
    "inner": {"count": 2},
    "numbers": [1, 2.5],
    "options": {"a": True, "b": 3, "c": 0.5, "d": "x"},
    "anything": {"deep": [{"x": None}]},
}


def encode(**changes: object) -> bytes:
    """Return the good object with changes."""
    return json.dumps({**GOOD, **changes}).encode()


def test_every_annotation_is_read_as_what_it_says() -> None:
    """Lists become tuples, integers stand for floats, and types inside unions survive."""
    parsed = parse(Outer, encode())

    assert (
        Outer(
            name="a",
            ratio=1.0,
            flag=True,
            maybe=None,
            inner=Inner(2),
            numbers=(1.0, 2.5),
            options={"a": True, "b": 3, "c": 0.5, "d": "x"},
            anything={"deep": [{"x": None}]},
        )
        == parsed
    )
    assert [bool, int, float, str] == [type(value) for value in parsed.options.values()]
    assert [float, float] == [type(value) for value in parsed.numbers]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "name: 3: must be str"),
        ({"name": None}, "name: None: must be str"),
        ({"ratio": "1"}, "ratio: '1': must be float"),
        ({"ratio": True}, "ratio: True: must be float"),
        ({"ratio": 10**400}, "is too large for a float"),
        ({"flag": 1}, "flag: 1: must be bool"),
        ({"maybe": 1.0}, "maybe: 1.0: must be int | None"),
        ({"maybe": True}, "maybe: True: must be int | None"),
        ({"inner": 3}, "inner: 3: must be an object"),
        ({"inner": {}}, "inner.count: is missing"),
        ({"inner": {"count": 1, "more": 2}}, "inner.more: 2: is not a known key"),
        ({"inner": {"count": 0}}, "inner.count: 0: must be above 0"),
        ({"numbers": [1, "2"]}, "numbers[1]: '2': must be float"),
        ({"numbers": {}}, "numbers: {}: must be tuple[float, ...]"),
        ({"options": {"a": []}}, "options.a: []: must be"),
        ({"anything": []}, "anything: []: must be dict"),
        ({"extra": 1}, "extra: 1: is not a known key"),
    ],
)
def test_what_is_not_asked_for_is_refused_by_key_and_value(
    changes: dict[str, object], message: str
) -> None:
    """The message leads to the place in the file."""
    with pytest.raises(StrictJsonError) as raised:
        parse(Outer, encode(**changes))

    assert message in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"name": -Infinity}',
        b'{"name": "a", "name": "b"}',
        b"[" * 100_000,
        b"\x80\x04\x95pickle",
    ],
)
def test_what_is_no_such_json_is_refused(text: bytes) -> None:
    """Whatever bytes come, the answer is one kind of error."""
    with pytest.raises(StrictJsonError):
        parse(Outer, text)


def test_long_values_are_cut_in_messages() -> None:
    """A megabyte in the wrong place must not become a megabyte of log."""
    with pytest.raises(StrictJsonError) as raised:
        parse(Outer, encode(flag="x" * 10**6))

    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "text", [b'{"' + b"k" * 10**6 + b'": 1}', b'{"k": 1, "k": ' + b"1" * 10**6]
)
def test_long_keys_and_numbers_are_cut_as_well(text: bytes) -> None:
    """Whatever the message is made of, also what the standard library says (found by fuzzing)."""
    with pytest.raises(StrictJsonError) as raised:
        parse(Outer, text)

    assert len(str(raised.value)) < 600


def test_a_number_beyond_floats_is_refused_wherever_it_stands() -> None:
    """1e999 is infinity to Python; in a verdict of any JSON it could not be written again."""
    text = encode().replace(b"}", b', "more": [1e999]}', 1)
    with pytest.raises(StrictJsonError, match="'1e999' is too large for a float"):
        parse(Outer, text)


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_any_other_json_is_refused_and_never_crashes(value: object) -> None:
    """No JSON value that is not the object passes."""
    with pytest.raises(StrictJsonError):
        parse(Outer, json.dumps(value, allow_nan=True).encode())


@dataclass(frozen=True)
class Grown:
    """One field that older writers did not know."""

    name: str
    sizes: tuple[int, ...] | None = field(default=None, metadata={OPTIONAL: True})


def test_an_optional_field_may_be_missing_and_is_never_null() -> None:
    """So there is one text for each value."""
    assert Grown("a") == parse(Grown, b'{"name": "a"}')
    assert Grown("a", (1, 2)) == parse(Grown, b'{"name": "a", "sizes": [1, 2]}')
    with pytest.raises(StrictJsonError, match="sizes: null: must be left out instead"):
        parse(Grown, b'{"name": "a", "sizes": null}')
