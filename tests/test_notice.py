"""What is told of entries: which, under which id, and in which words."""

import json

from teacherd.daemon.entries import Entry, Open, Outcome, Publish, Restore, Rollback, Runtime
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.notice import Notice, NoticeReader

OPEN = Open(lineage="line", seed=1, sha256="0", classes=("a", "b"))
FIGURES = {"outer_ratio": 0.5}
ACCEPTED = Outcome(
    task=1, result="accepted", version=1, gate="passed", figures={"outer_ratio": 0.5}
)


def read(*entries: Entry) -> list[Notice]:
    """Return the notices of a log."""
    reader = NoticeReader()
    logged = [LoggedEntry(place, f"at {place}", entry) for place, entry in enumerate(entries)]
    return [notice for each in logged if (notice := reader.read(each)) is not None]


def test_a_promotion_carries_its_verdict() -> None:
    """And what was served before; the id is lineage, epoch and place in the log."""
    [notice] = read(OPEN, Publish(version=0), ACCEPTED, Publish(version=1))

    assert "line/1/3" == notice.id
    assert "promoted" == notice.event
    assert notice.is_of_serving
    assert {
        "id": "line/1/3",
        "event": "promoted",
        "text": "teacherd: version 1 is served: it passed the gate.",
        "at": "at 3",
        "lineage": "line",
        "epoch": 1,
        "sequence": 3,
        "version": 1,
        "previous": 0,
        "cause": "gate",
        "task": 1,
        "gate": "passed",
        "point": 1.0,
        "reasons": [],
        "figures": FIGURES,
    } == json.loads(json.dumps(notice.content))


def test_a_promotion_by_hand_may_be_of_an_older_task() -> None:
    """Its verdict was told of then, and is not the newest one's."""
    [held, promoted] = read(
        OPEN,
        ACCEPTED,
        Outcome(task=2, result="held", reasons=("worse",)),
        Publish(version=1, cause="request"),
    )

    assert "teacherd: task 2 was held: worse." == held.content["text"]
    assert not held.is_of_serving
    assert "teacherd: version 1 is served: promoted by hand." == promoted.content["text"]
    assert "task" not in promoted.content


def test_where_there_is_no_gate_it_is_said() -> None:
    """So that nobody takes it for a verdict."""
    [notice] = read(OPEN, Outcome(task=1, result="accepted", version=1), Publish(version=1))

    assert "teacherd: version 1 is served: there is no gate." == notice.content["text"]


def test_a_rollback_says_what_it_returns_to_and_why() -> None:
    """After a restore the epoch is part of the id, because places in the log come again."""
    [_, notice] = read(
        OPEN,
        Restore(epoch=9),
        ACCEPTED,
        Publish(version=1),
        Rollback(version=2, to=0, sha256="2", cause="probation", reason="5 points worse"),
    )

    assert "line/9/4" == notice.id
    assert (2, 0, 1) == tuple(notice.content[key] for key in ("version", "to", "previous"))
    assert notice.content["text"].endswith("version 0 (probation: 5 points worse).")


def test_what_needs_nobody_is_not_told() -> None:
    """Version 0, accepted tasks that are not served, empty and lost ones, facts of the runtime."""
    entries = [OPEN, Publish(version=0), Runtime(facts={}), ACCEPTED]

    assert [] == read(*entries, Outcome(task=2, result="empty"), Outcome(task=3, result="lost"))


def test_a_quarantined_task_is_told_with_its_reason() -> None:
    """It waits for somebody to look."""
    [notice] = read(OPEN, Outcome(task=4, result="quarantined", reasons=("loss is nan",)))

    assert "quarantined" == notice.event
    assert "teacherd: task 4 was put into quarantine: loss is nan." == notice.content["text"]
