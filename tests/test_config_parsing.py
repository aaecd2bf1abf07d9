"""Parsing settings: every mistake is told, at once, by its dotted key."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_key_can_be_set_in_an_empty_section() -> None:
    """`kitchen:` with all keys commented out is None to YAML, and a section all the same."""
    raw: dict[str, Any] = {"kitchen": None}
    overlay_assignments(raw, ["kitchen.lights=false"])
    overlay_environment(raw, {"TEACHERD_KITCHEN__NAME": "galley"})

    assert {"kitchen": {"lights": False, "name": "galley"}} == raw


@pytest.mark.parametrize(
    "value", ["[1", "{a", "'", "a: b: c", "!!python/name:os.system", "2026-13-01"]
)
def test_a_value_that_is_no_yaml_is_refused(value: str) -> None:
    """By flag and by environment, with key and value, and without a traceback."""
    with pytest.raises(ConfigurationError, match=r"rooms: .*is no YAML value"):
        overlay_assignments({}, [f"rooms={value}"])
    with pytest.raises(ConfigurationError, match=r"TEACHERD_KITCHEN__NAME: (.|\n)*kitchen\.name: "):
        overlay_environment({}, {"TEACHERD_KITCHEN__NAME": value})


def test_what_was_passed_in_is_left_as_it_was() -> None:
    """Taking culprits out to find the next ones happens on a copy."""
    raw: dict[str, Any] = {"kitchen": {"oven": {"degrees": 400}, "extra": {"a": [1]}}, "x": 1}
    problems(raw)

    assert {"kitchen": {"oven": {"degrees": 400}, "extra": {"a": [1]}}, "x": 1} == raw


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kitchen", "oven", "degrees", "minutes", "sizes", "extra", "name"])
            | st.integers()
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["kitchen", "rooms"]) | st.text(max_size=3), JUNK))
def test_whatever_a_file_holds_it_parses_or_is_told(raw: dict[Any, Any]) -> None:
    """No other exception, and no error without a key of what was given."""
    try:
        parsed = parse(House, raw, origin="house.yaml")
    except ConfigurationError as error:
        keys = [problem.key for problem in error.problems]
        assert all(any(key.startswith(str(given)) for given in raw) for key in keys)
    else:
        assert isinstance(parsed, House)


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


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_a_number_that_is_not_finite_is_refused(value: str) -> None:
    """NaN would pass every rule that compares, and nothing can be set to it on purpose."""
    raw: dict[str, Any] = {}
    overlay_assignments(raw, [f"kitchen.oven.degrees={value}"])

    assert "must be finite" in problems(raw)["kitchen.oven.degrees"]
