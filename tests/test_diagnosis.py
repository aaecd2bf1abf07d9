"""Sentences about what is wrong: each when it is, none when it is not."""

from collections.abc import Mapping
from typing import Any

import pytest

from teacherd.daemon.diagnosis import diagnose, headline

WELL: dict[str, Any] = {
    "state": "ready",
    "at_ms": 100_000,
    "teacher": {"version": 3, "created_at": "2026-01-02T00:00:00Z"},
    "lineage": {"tasks": 5, "head": 3, "current": 3},
    "learning": {"forgetting": {"plain": 0.05, "turned": -0.3}},
    "task": {"number": 6},
    "intake": {"records": 1000, "rejected": 10, "is_paused": False, "error": None, "stalled": []},
    "load": {"headroom_ratio": 1.0, "retention_margin_seconds": 21600.0},
    "classes": {"deferred_labels": 20, "deferred_records": 21},
    "verdict": {"task": 5, "result": "accepted", "reasons": [], "at": "2026-01-02T00:00:01Z"},
    "drift": {"outer": {"score": 0.1, "threshold": 0.3, "alarmed": False, "last_alarm_ms": 5}},
    "mirrors": {"s3": {"version": 3}},
    "notifications": {"webhook": {"waiting": 0, "error": None}},
    "config": {"reload_refused": None},
    "checkpoint": {"error": None},
    "ages": {
        "lag_seconds": 3600.0,
        "freshness_seconds": 12.0,
        "teacher_age_seconds": 3600.0,
        "checkpoint_age_seconds": 900.0,
    },
    "loops": {"seconds_since_beat": {"learning": 1.0}, "limit_seconds": 120.0},
}


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of a daemon that is well, but for some values of some sections."""
    return WELL | {
        name: {**WELL[name], **new} if isinstance(new, dict) else new
        for name, new in changes.items()
    }


def test_a_daemon_that_is_well_gives_nothing_to_say() -> None:
    """Each figure as bad as is still tolerated."""
    assert [] == diagnose(WELL)


@pytest.mark.parametrize(
    ("about", "level", "changes", "words"),
    [
        ("state", "note", {"state": "starting"}, "is starting"),
        ("state", "note", {"state": "standby"}, "stands by"),
        ("loop", "critical", {"loops": {"seconds_since_beat": {"learning": 121}}}, "2 minutes"),
        ("source", "critical", {"intake": {"error": "disk full", "failures": 4}}, "4 attempts"),
        ("stalled", "critical", {"intake": {"stalled": ["cats/3"]}}, "Partition cats/3"),
        ("paused", "note", {"intake": {"is_paused": True}}, "buffer is full"),
        ("lag", "warning", {"ages": {"lag_seconds": 7300.0}}, "2 hours"),
        ("headroom", "warning", {"load": {"headroom_ratio": 0.8}}, "80.0%"),
        ("retention", "critical", {"load": {"retention_margin_seconds": 600.0}}, "10 minutes"),
        ("dead_letters", "warning", {"intake": {"rejected": 11}}, "1.1%"),
        ("labels", "warning", {"classes": {"deferred_labels": 21}}, "21 labels"),
        ("held", "warning", {"verdict": {"result": "held", "reasons": ["worse"]}}, "worse"),
        ("quarantined", "warning", {"verdict": {"result": "quarantined"}}, "not finite"),
        ("lost", "warning", {"verdict": {"result": "lost"}}, "Task 5 was lost"),
        ("promotion", "warning", {"ages": {"teacher_age_seconds": 4 * 86400.0}}, "4 days"),
        ("forgetting", "critical", {"learning": {"forgetting": {"a": 0.061}}}, "6.1 points"),
        ("drift", "warning", {"drift": {"inputs": {"alarmed": True}}}, "inputs"),
        ("unserved", "note", {"lineage": {"current": 2}, "verdict": {"version": 3}}, "not served"),
        ("checkpoint", "warning", {"ages": {"checkpoint_age_seconds": 1000.0}}, "17 minutes"),
        ("drift", "warning", {"verdict": {"drift": "confirmed"}}, "confirmed with task 5"),
        ("checkpoint_failed", "critical", {"checkpoint": {"error": "disk full"}}, "disk full"),
        ("mirror", "warning", {"mirrors": {"s3": {"error": "no route"}}}, "no route"),
        (
            "notification",
            "warning",
            {"notifications": {"webhook": {"waiting": 2, "error": "answered 500"}}},
            "webhook is not told of decisions, 2 wait: answered 500",
        ),
        ("reload", "warning", {"config": {"reload_refused": "epochs"}}, "epochs"),
    ],
)
def test_what_is_wrong_is_said(about: str, level: str, changes: dict[str, Any], words: str) -> None:
    """One sentence about it, with the figure that a person would ask for, and nothing else."""
    (symptom,) = diagnose(changed(changes))

    assert (about, level) == (symptom.about, symptom.level)
    assert words in symptom.says
    assert symptom.remedy or about == "state"


def test_the_worst_comes_first() -> None:
    """A person may read no further than the first line."""
    status = changed({"intake": {"is_paused": True, "error": "x"}, "ages": {"lag_seconds": 4000.0}})

    assert ["critical", "warning", "note"] == [each.level for each in diagnose(status)]


def test_an_old_teacher_is_right_while_there_is_nothing_to_learn() -> None:
    """A stream that rests for days wakes nobody."""
    quiet = {"teacher_age_seconds": 1e6, "lag_seconds": 0.0}
    verdict = {"verdict": {"at": WELL["teacher"]["created_at"]}}

    assert [] == diagnose(changed({"ages": quiet, **verdict}))


def test_between_tasks_no_checkpoint_is_due() -> None:
    """A daemon that waits for records writes none, however long."""
    ages = {"checkpoint_age_seconds": 1e6}

    assert [] == diagnose(changed({"ages": ages, "task": {"number": None}}))


@pytest.mark.parametrize("status", [{}, {"state": "starting"}, {"state": "ready", "ages": {}}])
def test_a_daemon_that_has_only_begun_can_be_asked(status: dict[str, Any]) -> None:
    """Sections come one by one while it starts."""
    assert all(symptom.about == "state" for symptom in diagnose(status))
    assert headline(status)


def test_the_headline_says_what_is_served_and_how_fresh_it_is() -> None:
    """The two figures that an operator looks for first."""
    first = changed({"ages": {"freshness_seconds": None}, "teacher": {"version": 0}})

    assert "Version 3 is served; the newest instance that it learned is 12 s old." == headline(WELL)
    assert "Version 0 is served, the base model: nothing has been learned yet." == headline(first)


def test_the_headline_tells_what_waits_to_be_served_from_nothing_learned() -> None:
    """The gate may have let no version pass yet."""
    status = changed(
        {
            "ages": {"freshness_seconds": None},
            "teacher": {"version": 0},
            "lineage": {"instances_learned": 92},
        }
    )
    says = "Version 0 is served, the base model: nothing that was learned is served yet."

    assert says == headline(status)
    assert "The daemon is stopping." == headline(changed({"state": "stopping"}))
