"""Parsing settings: every mistake is told, at once, by its dotted key."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from teacherd.daemon.config_parsing import (
    keys_of,
    overlay_assignments,
    overlay_environment,
    parse,
)
from teacherd.daemon.errors import ConfigurationError, ExitCode


@dataclass(frozen=True, kw_only=True, slots=True)
class Oven:
    """A section with rules of its own."""

    degrees: float = 180.0
    minutes: int = 20
    mode: Literal["fan", "grill"] = "fan"

    def __post_init__(self) -> None:
        if self.degrees > 300:
            raise ValueError(f"degrees: {self.degrees} is above 300; take 180")
        if self.minutes < 1:
            raise ValueError(f"minutes: {self.minutes} is below 1; take 20")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kitchen:
    """A section with a section."""

    oven: Oven = field(default_factory=Oven)
    lights: bool = True
    sizes: tuple[int, ...] = (1, 2)
    extra: dict[str, bool | int | str] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """The whole."""

    kitchen: Kitchen = field(default_factory=Kitchen)
    rooms: int = 3


def problems(raw: dict[str, Any]) -> dict[str, str]:
    """Return message by key of what is wrong with raw settings."""
    with pytest.raises(ConfigurationError) as caught:
        parse(House, raw, origin="house.yaml")

    assert ExitCode.CONFIGURATION == caught.value.exit_code
    return {problem.key: problem.message for problem in caught.value.problems}


def test_nothing_given_is_the_defaults() -> None:
    """Every key has a default."""
    assert House() == parse(House, {}, origin="house.yaml")


def test_an_empty_section_is_its_defaults() -> None:
    """`kitchen:` with all keys commented out is None to YAML."""
    assert House() == parse(House, {"kitchen": None}, origin="house.yaml")


def test_values_reach_their_fields() -> None:
    """Nested sections, lists and free-form mappings are filled in."""
    raw = {"kitchen": {"oven": {"degrees": 200}, "sizes": [3], "extra": {"a": True}}, "rooms": 4}

    parsed = parse(House, raw, origin="house.yaml")

    oven = Oven(degrees=200.0)
    assert House(kitchen=Kitchen(oven=oven, sizes=(3,), extra={"a": True}), rooms=4) == parsed


def test_every_mistake_is_told_at_once() -> None:
    """Unknown keys, wrong types and several broken rules of one section, each by dotted key."""
    found = problems(
        {
            "kitchen": {
                "oven": {"degrees": 400, "minutes": 0, "mode": "steam", "minuets": 3},
                "lights": "dark",
            },
            "rooms": True,
            "garden": 1,
        }
    )

    assert {
        "kitchen.oven.degrees",
        "kitchen.oven.minutes",
        "kitchen.oven.mode",
        "kitchen.oven.minuets",
        "kitchen.lights",
        "rooms",
        "garden",
    } == set(found)


def test_a_rule_is_told_with_value_and_fix() -> None:
    """The message of the dataclass stands under its key."""
    found = problems({"kitchen": {"oven": {"degrees": 400}}})

    assert {"kitchen.oven.degrees": "400.0 is above 300; take 180"} == found


def test_an_unknown_key_gets_a_hint() -> None:
    """A typo is answered with the key that was probably meant."""
    found = problems({"kitchen": {"oven": {"minuets": 3}}})

    assert {"kitchen.oven.minuets": "unknown key; did you mean minutes?"} == found


def test_a_value_where_a_section_belongs_is_told() -> None:
    """No traceback, whatever the shape of the data."""
    assert {"kitchen"} == set(problems({"kitchen": 3}))
    assert {"kitchen.oven"} == set(problems({"kitchen": {"oven": [1]}}))


def test_environment_lies_over_the_file() -> None:
    """TEACHERD_SECTION__KEY reaches nested keys; other variables are none of ours."""
    raw: dict[str, Any] = {"kitchen": {"oven": {"degrees": 200}}}
    environment = {"TEACHERD_KITCHEN__OVEN__DEGREES": "210", "TEACHERD_FAILPOINT": "x", "A__B": "1"}
    overlay_environment(raw, environment)

    assert {"kitchen": {"oven": {"degrees": 210}}} == raw


def test_flags_are_read_as_yaml() -> None:
    """Numbers, booleans, lists and null can be given on the command line."""
    raw: dict[str, Any] = {}
    overlay_assignments(raw, ["rooms=5", "kitchen.sizes=[4, 5]", "kitchen.name=null"])

    assert {"rooms": 5, "kitchen": {"sizes": [4, 5], "name": None}} == raw


@pytest.mark.parametrize("assignment", ["rooms", "=3"])
def test_a_flag_of_another_form_is_refused(assignment: str) -> None:
    """The error shows what was typed."""
    with pytest.raises(ConfigurationError, match="--set"):
        overlay_assignments({}, [assignment])


def test_a_flag_into_a_value_is_refused() -> None:
    """A key below a plain value has nowhere to go."""
    with pytest.raises(ConfigurationError, match="rooms holds a value"):
        overlay_assignments({"rooms": 3}, ["rooms.size=3"])


def test_keys_are_listed_with_their_dots() -> None:
    """The list of keys is what config.yaml and its test are held against."""
    expected = [
        "kitchen.oven.degrees",
        "kitchen.oven.minutes",
        "kitchen.oven.mode",
        "kitchen.lights",
        "kitchen.sizes",
        "kitchen.extra",
        "kitchen.name",
        "rooms",
    ]
    assert expected == keys_of(House)
