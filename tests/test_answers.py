"""The three answers: yes, no, or nothing to go by, each with the figure that says so."""

from typing import Any

import pytest

from teacherd.daemon.answers import answer

WELL: dict[str, Any] = {
    "teacher": {"version": 3},
    "ages": {"freshness_seconds": 12.0, "lag_seconds": 0.0},
    "learning": {
        "forgetting": {"plain": 0.01, "turned": -0.4, "dark": -0.1, "grey": 0.05},
        "backward_transfer": -0.02,
    },
}


def answers(status: dict[str, Any], *problems: str) -> dict[str, tuple[bool | None, str]]:
    """Return whether it is so and what is said, by question."""
    return {each.about: (each.is_so, each.says) for each in answer(status, problems)}


def test_a_teacher_that_is_well_is_all_three() -> None:
    """As near to the tolerance as is still tolerated."""
    found = answers(WELL)

    assert ["fresh", "better", "remembers"] == list(found)
    assert (True, "The newest instance that it learned is 12 s old; no record waits.") == found[
        "fresh"
    ]
    assert found["better"] == (
        True,
        (
            "+40.0 points on turned, +10.0 points on dark, -1.0 points on plain, "
            "against the base model."
        ),
    )
    assert found["remembers"] == (
        True,
        (
            "At worst 5.0 points below the base model, on grey; "
            "-2.0 points on earlier tasks since each was learned."
        ),
    )


@pytest.mark.parametrize("problem", ["loop", "source", "stalled", "lag", "headroom", "promotion"])
def test_whatever_falls_behind_the_stream_is_not_fresh(problem: str) -> None:
    """An old instance is none the fresher for being the newest that could be learned."""
    found = answers(WELL | {"ages": {"freshness_seconds": 9e4, "lag_seconds": 7300.0}}, problem)

    assert found["fresh"][0] is False
    assert "25 hours" in found["fresh"][1]
    assert "2 hours" in found["fresh"][1]


def test_a_stream_that_rests_leaves_the_teacher_fresh() -> None:
    """Nothing newer exists that it could have learned."""
    assert answers(WELL | {"ages": {"freshness_seconds": 9e5}}, "drift")["fresh"][0] is True


@pytest.mark.parametrize(
    "learning",
    [
        {"forgetting": {"plain": 0.051, "turned": -0.4}, "backward_transfer": 0.0},
        {"forgetting": {"plain": -0.1}, "backward_transfer": -0.051},
        {"backward_transfer": -0.06},
    ],
)
def test_one_loss_beyond_the_tolerance_is_forgetting(learning: dict[str, Any]) -> None:
    """On a set, or over what earlier tasks held out; gains elsewhere do not make up for it."""
    assert answers(WELL | {"learning": learning})["remembers"][0] is False


def test_a_teacher_that_gained_nowhere_is_not_better() -> None:
    """Equal is not better."""
    found = answers(WELL | {"learning": {"forgetting": {"plain": 0.0, "turned": 0.01}}})

    assert found["better"][0] is False


def test_without_sets_the_gate_has_the_answer() -> None:
    """The last comparison on what was held out, if it is of the version that is served."""
    check = {"holdout": "newest", "against": "current", "num": 50, "won": 3, "lost": 1}
    status = WELL | {"learning": {}, "verdict": {"version": 3, "checks": [check]}}

    assert (
        True,
        "+4.0 points on what was held out, against the version before.",
    ) == answers(status)["better"]
    assert answers(status | {"teacher": {"version": 2}})["better"][0] is None


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    """A daemon that has only started, and one that measures nothing."""
    assert {None} == {is_so for is_so, _ in answers({"teacher": {"version": 0}}).values()}
    assert "The base model is served." == answers({"teacher": {"version": 0}})["better"][1]
    assert answers({})["remembers"][0] is None
