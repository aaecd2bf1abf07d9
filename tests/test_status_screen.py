"""The terminal's picture of a daemon: what is wrong first, and nothing that a terminal obeys."""

import io
from typing import Any

from rich.console import Console

from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.status_screen import render, watch

STATUS: dict[str, Any] = {
    "state": "ready",
    "headline": "Version 3 is served.",
    "answers": [
        {"about": "fresh", "asks": "Fresh", "is_so": False, "says": "It is a day old."},
        {"about": "better", "asks": "Better than before", "is_so": None, "says": "No sets."},
    ],
    "problems": [
        {"about": "lag", "level": "warning", "says": "It \x1b[2Jlags.", "remedy": "Wait."}
    ],
    "ages": {"lag_seconds": 7300.0, "freshness_seconds": None},
    "lineage": {"instances_learned": 12345, "tasks": 3},
    "intake": {"lag": {"t/0": 5, "t/1": 6}},
    "buffer": {"records": 7},
    "task": {"number": 4, "steps_done": 10, "steps": 40},
    "load": {"headroom_ratio": 2.5},
    "learning": {
        "teacher_accuracy": {"plain": 0.962},
        "student_accuracy": {"plain": 0.951},
        "base_accuracy": {"plain": 0.9},
        "forgetting": {"plain": -0.062},
    },
    "teacher": {"version": 3},
    "drift": {"error": {"score": 0.25, "threshold": 0.5, "alarmed": True, "last_alarm_ms": 1000}},
}
HISTORY: dict[str, Any] = {
    "tasks": [
        {
            "task": task,
            "at": "2026-01-01T10:20:30+00:00",
            "instances": 60,
            "result": "held" if task == 20 else "accepted",
            "version": None if task == 20 else task,
            "reasons": ["worse on plain"] if task == 20 else [],
            "teacher": {"plain": 0.9},
        }
        for task in range(1, 21)
    ]
}


def drawn(status: dict[str, Any], history: dict[str, Any]) -> str:
    """Return the picture as text."""
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(render(status, history))
    return capture.get()


def test_everything_that_the_page_shows_is_there() -> None:
    """State, sentences, key figures, accuracies, drift, and the newest tasks with reasons."""
    picture = drawn(STATUS, HISTORY)

    for words in (
        "teacherd ready",
        "Version 3 is served.",
        "Fresh: no  It is a day old.",
        "Better than before: unknown  No sets.",
        "Wait.",
        "2 hours",
        "11 unread, 7 buffered",
        "12,345",
        "step 10 of 40",
        "2.5 times",
        "96.2%",
        "-6.2 points",
        "0.25",
        "1970-01-01T00:00:01",
        "worse on plain",
    ):
        assert words in picture
    assert picture.index("WARNING") < picture.index("served version")
    assert "v13" in picture
    assert "v12" not in picture


def test_without_evaluation_sets_there_is_no_empty_table() -> None:
    """A head with nothing below looks as if something failed."""
    picture = drawn({**STATUS, "learning": {}}, HISTORY)

    assert "accuracy on" not in picture
    assert "accuracy on" in drawn(STATUS, HISTORY)


def test_no_escape_sequence_of_a_stranger_reaches_the_terminal() -> None:
    """Reasons and names came in with records."""
    picture = drawn(STATUS, HISTORY)

    assert "\x1b[2J" not in picture
    assert "It \\x1b[2Jlags." in picture


def test_names_and_reasons_are_shown_as_they_are() -> None:
    """A class or a set may be called anything: brackets are no markup, colons no pictures."""
    learning = {
        name: {"[/red]:cat:": value}
        for name, value in [("teacher_accuracy", 1), ("base_accuracy", 1)]
    }
    row = {**HISTORY["tasks"][0], "reasons": ["class [/dog]: 3 won"], "teacher": {}}
    picture = drawn(
        {**STATUS, "learning": learning, "drift": {"[x]": {}}}, {**HISTORY, "tasks": [row]}
    )

    assert 2 == picture.count("[/red]:cat:")
    assert "[x]" in picture
    assert "class [/dog]: 3 won" in picture


def test_a_daemon_that_has_only_begun_can_be_watched() -> None:
    """Its sections come one by one."""
    picture = drawn({"state": "starting"}, {})

    assert "teacherd starting" in picture
    assert "Nothing is wrong." in picture


def test_a_daemon_that_does_not_answer_is_waited_for() -> None:
    """The last picture stays below the message, and the next answer replaces both."""
    answers = [(STATUS, HISTORY), None, ({**STATUS, "headline": "Back."}, HISTORY)]
    terminal = io.StringIO()

    def fetch() -> tuple[dict[str, Any], dict[str, Any]]:
        answer = answers.pop(0)
        if answer is None:
            raise UnavailableError("no daemon answers")
        return answer

    def sleep(_seconds: float) -> None:
        if not answers:
            raise KeyboardInterrupt

    watch(
        fetch,
        console=Console(file=terminal, force_terminal=True, width=120, height=80),
        sleep=sleep,
    )
    picture = terminal.getvalue()

    assert [] == answers
    assert picture.index("no daemon answers") < picture.index("Back.")
    assert 2 == picture[picture.index("no daemon answers") :].count("WARNING")


def test_classes_that_came_later_and_labels_that_wait_are_shown() -> None:
    """Only where there are any."""
    classes = {"served": 12, "later": ["fox", "elk"], "deferred_records": 5, "deferred_labels": 3}
    picture = drawn({**STATUS, "classes": classes}, HISTORY)

    assert "12, 2 of them later" in picture
    assert "5 records with 3 labels wait" in picture
    assert "labels wait" not in drawn(STATUS, HISTORY)
