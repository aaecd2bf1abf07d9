"""Words for values: short, and harmless on a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacherd.daemon.wording import points, printable, share, span, word


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ((), ""),
        ({}, ""),
        (0, "0"),
        (True, "yes"),
        (False, "no"),
        (12345678, "12345678"),
        (0.123456, "0.1235"),
        (1e-9, "1e-09"),
        (("a", 1, 0.5), "a, 1, 0.5"),
        ({"loss": 0.25, "at_ms": 0}, "loss 0.25, at_ms 1970-01-01T00:00:00+00:00"),
        ({"arguments": {}}, "arguments"),
        ({"score": None, "alarmed": False}, "alarmed no"),
        ([{"start": 1, "end": 3}, {"start": 3}], "start 1, end 3; start 3"),
    ],
)
def test_values_are_short(value: object, expected: str) -> None:
    """Four digits suffice for a person; what is empty is blank."""
    assert expected == word(value)


@pytest.mark.parametrize("value", [1_795_262_492_376, 1_795_262_492_376.0])
def test_milliseconds_are_a_moment(value: float) -> None:
    """By the name: nobody reads milliseconds since 1970."""
    assert "2026-11-21T12:01:32+00:00" == word(value, name="newest_event_ms")


@given(st.text())
def test_what_is_printed_has_no_control_characters(text: str) -> None:
    """Whatever a record holds, the terminal only shows it."""
    shown = printable(text)

    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (119.4, "119 s"),
        (120, "2 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (172_800, "2 days"),
    ],
)
def test_a_time_has_its_natural_unit(seconds: float, expected: str) -> None:
    """Nobody reads 86,400 seconds, and two of a unit are needed before it says enough."""
    assert expected == span(seconds)


def test_shares_are_in_percent_and_their_differences_in_points() -> None:
    """5 percent less is not 5 points less."""
    assert "0.0 points" == points(-0.0004)
    assert ("96.2%", "5.0 points") == (share(0.962), points(0.05))
