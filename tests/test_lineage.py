"""The fold over entries: what follows from the log, and what is refused to enter it."""

from dataclasses import replace
from typing import Any

import pytest

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import (
    ClosedRange,
    Config,
    Entry,
    Open,
    Outcome,
    Plan,
    Publish,
    Restore,
    Retry,
    Rollback,
    Skip,
)
from teacherd.daemon.lineage import Lineage, LineageError

OPEN = Open(lineage="a1", seed=7, sha256="00", classes=("cat", "dog"))
PARTITION = Partition("t", 0)


def plan(task: int, start: int, end: int, *, head: int = 0) -> Plan:
    """Return a plan that closes one range of t/0."""
    closed = ClosedRange(
        topic="t", partition=0, start=start, end=end, count=end - start, digest="d"
    )
    return Plan(
        task=task,
        cause="count",
        head=head,
        seed=7,
        epochs=1,
        learning_rate=0.1,
        num_instances=end - start,
        ranges=(closed,),
    )


def accepted(task: int, version: int) -> Outcome:
    """Return an outcome that makes a version the head."""
    return Outcome(
        task=task, result="accepted", version=version, sha256=f"{version:02}", should_publish=True
    )


def retry(task: int, *, attempt: int = 2, head: int = 0, cause: str = "nonfinite") -> Retry:
    """Return a retry at half the plan's learning rate."""
    return Retry(
        task=task,
        attempt=attempt,
        head=head,
        learning_rate=0.05,
        cause=cause,  # type: ignore[arg-type]
    )


def fold(*entries: Entry) -> Lineage:
    """Apply entries to an empty lineage."""
    lineage = Lineage()
    for entry in entries:
        lineage.apply(entry)
    return lineage


def test_a_finished_task_moves_head_current_and_place() -> None:
    """Plan moves the place, outcome the head, publish what is served."""
    lineage = fold(OPEN, Publish(version=0), plan(1, 0, 5), accepted(1, 1), Publish(version=1))

    assert (1, 1) == (lineage.head, lineage.current)
    assert {PARTITION: 5} == lineage.places
    assert lineage.unfinished is None
    assert 0 == lineage.versions[1].parent
    assert 5 == lineage.num_learned


def test_a_plan_without_outcome_is_unfinished() -> None:
    """Its place has moved all the same: its records are read again from the plan, not the place."""
    lineage = fold(OPEN, plan(1, 0, 5))

    assert plan(1, 0, 5) == lineage.unfinished
    assert {PARTITION: 5} == lineage.places
    assert 0 == lineage.head


@pytest.mark.parametrize("result", ["held", "quarantined", "lost", "empty"])
def test_a_task_that_is_not_accepted_leaves_the_head(result: str) -> None:
    """Its records are decided, the weights are as before."""
    lineage = fold(OPEN, plan(1, 0, 5), Outcome(task=1, result=result))  # type: ignore[arg-type]

    assert 0 == lineage.head
    assert {result: 1} == lineage.outcomes
    assert {PARTITION: 5} == lineage.places


def test_a_version_to_be_served_is_known_until_it_is() -> None:
    """A crash between outcome and publish entry leaves the publication to be made up for."""
    lineage = fold(OPEN, Publish(version=0), plan(1, 0, 5), accepted(1, 1))

    assert 1 == lineage.unpublished
    assert 0 == lineage.current

    lineage.apply(Publish(version=1))

    assert lineage.unpublished is None


def test_a_skip_lets_the_next_range_begin_later() -> None:
    """Lost records are stepped over only by an entry that says so."""
    skip = Skip(topic="t", partition=0, start=5, end=9, reason="retention")
    lineage = fold(OPEN, plan(1, 0, 5), accepted(1, 1), skip)

    assert {PARTITION: 9} == lineage.places

    lineage.apply(plan(2, 9, 12, head=1))

    assert {PARTITION: 12} == lineage.places


def test_a_place_is_one_of_the_topic_that_was_named_last() -> None:
    """By a plan, or by the skip that says that the topic was made anew; 0.1.0 named none."""
    lineage = fold(OPEN, plan(1, 0, 5), accepted(1, 1))

    assert {} == lineage.topic_ids

    named = plan(2, 5, 9, head=1)
    lineage.apply(replace(named, ranges=(replace(named.ranges[0], topic_id="old"),)))

    assert {PARTITION: "old"} == lineage.topic_ids

    lineage.apply(accepted(2, 2))
    lineage.apply(Skip(topic="t", partition=0, start=9, end=0, reason="made anew", topic_id="new"))
    lineage.apply(plan(3, 0, 4, head=2))

    assert ({PARTITION: "new"}, {PARTITION: 4}) == (lineage.topic_ids, lineage.places)


def test_a_topic_made_anew_may_begin_at_the_very_place() -> None:
    """Then nothing is passed over, yet what comes is another topic's."""
    fold(OPEN, Skip(topic="t", partition=0, start=0, end=0, reason="made anew", topic_id="new"))
    with pytest.raises(LineageError, match="is empty"):
        fold(OPEN, Skip(topic="t", partition=0, start=0, end=0, reason="retention"))


def test_a_retry_is_the_plan_once_more_with_another_learning_rate() -> None:
    """Same number and ranges; the places stay, and what follows is one outcome."""
    lineage = fold(OPEN, plan(1, 0, 5), retry(1))

    assert lineage.unfinished is not None
    assert (0.05, 2) == (lineage.unfinished.learning_rate, lineage.attempt)
    assert plan(1, 0, 5).ranges == lineage.unfinished.ranges
    assert {PARTITION: 5} == lineage.places

    lineage.apply(accepted(1, 1))

    assert ({"accepted": 1}, {}) == (lineage.outcomes, lineage.set_aside)


def test_a_task_that_was_set_aside_may_be_tried_again_from_the_head_of_now() -> None:
    """It counts as what became of it in the end."""
    held = Outcome(task=1, result="held")
    lineage = fold(OPEN, plan(1, 0, 5), held, plan(2, 5, 9), accepted(2, 1))

    assert [1] == list(lineage.set_aside)

    lineage.apply(retry(1, head=1, cause="request"))

    assert lineage.unfinished is not None
    assert (1, 1) == (lineage.unfinished.task, lineage.unfinished.head)

    lineage.apply(accepted(1, 2))

    assert {"accepted": 2, "held": 0} == lineage.outcomes
    assert 1 == lineage.versions[2].parent
    assert 9 == lineage.num_learned
    lineage.apply(plan(3, 9, 12, head=2))


def test_what_a_failed_probation_put_off_is_due_until_it_or_the_next_is_begun() -> None:
    """So that a start knows it, and records that are gone do not stand in the way for ever."""
    put_off = Outcome(task=1, result="held", is_cut_short=True, rolls_back_to=0)
    back = Rollback(version=1, to=0, sha256="00", cause="probation")

    assert 1 == fold(OPEN, plan(1, 0, 5), put_off).due_retry
    assert 1 == fold(OPEN, plan(1, 0, 5), put_off, back).due_retry
    begun = fold(OPEN, plan(1, 0, 5), put_off, back, retry(1, head=1, cause="probation"))
    assert None is begun.due_retry
    assert None is fold(OPEN, plan(1, 0, 5), put_off, back, plan(2, 5, 9, head=1)).due_retry


@pytest.mark.parametrize(("settings", "kept"), [({"set_aside": {"keep_tasks": 2}}, 2), ({}, 4)])
def test_as_many_tasks_can_be_tried_again_as_the_settings_keep(
    settings: dict[str, Any], kept: int
) -> None:
    """The oldest go; logs that do not say keep all, for they may hold a retry of any."""
    lineage = fold(OPEN, Config(settings=settings))
    for task in range(1, 5):
        lineage.apply(plan(task, task, task + 1))
        lineage.apply(Outcome(task=task, result="held", rolls_back_to=0))

    assert [1, 2, 3, 4][-kept:] == list(lineage.set_aside)
    assert 4 == lineage.due_retry


@pytest.mark.parametrize(
    ("before", "entry", "reason"),
    [
        ([], Publish(version=0), "begins with one open"),
        ([OPEN], OPEN, "begins with one open"),
        ([OPEN], plan(2, 0, 5), "not the next task"),
        ([OPEN, plan(1, 0, 5)], plan(2, 5, 9), "before the last one's outcome"),
        ([OPEN, plan(1, 0, 5), accepted(1, 1)], plan(2, 6, 9, head=1), "its place is 5"),
        ([OPEN, plan(1, 0, 5), accepted(1, 1)], plan(2, 4, 9, head=1), "its place is 5"),
        ([OPEN, plan(1, 0, 5), accepted(1, 1)], plan(2, 5, 9), "starts from 0"),
        ([OPEN], accepted(1, 1), "no open plan"),
        ([OPEN, plan(1, 0, 5)], accepted(2, 1), "no open plan"),
        ([OPEN, plan(1, 0, 5)], accepted(1, 2), "not the next"),
        ([OPEN, plan(1, 0, 5)], Outcome(task=1, result="accepted"), "not the next"),
        ([OPEN, plan(1, 0, 5)], retry(2), "not in progress"),
        ([OPEN, plan(1, 0, 5)], retry(1, attempt=3), "is not attempt 2"),
        ([OPEN, plan(1, 0, 5)], retry(1, cause="request"), "before the last one's outcome"),
        (
            [OPEN, plan(1, 0, 5), accepted(1, 1)],
            retry(1, head=1, cause="request"),
            "was not set aside",
        ),
        (
            [OPEN, plan(1, 0, 5), Outcome(task=1, result="held")],
            retry(1, head=1, cause="request"),
            "starts from 1",
        ),
        (
            [OPEN, plan(1, 0, 5), Outcome(task=1, result="held")],
            retry(1, cause="probation"),
            "is not due",
        ),
        ([OPEN], Publish(version=3), "publish of 3"),
        ([OPEN], Skip(topic="t", partition=0, start=5, end=5, reason="r"), "is empty"),
        (
            [OPEN, plan(1, 0, 5)],
            Skip(topic="t", partition=0, start=6, end=8, reason="r"),
            "not at its place",
        ),
    ],
)
def test_an_entry_that_does_not_follow_is_refused(
    before: list[Entry], entry: Entry, reason: str
) -> None:
    """No gap, no overlap, no outcome without plan, no version out of order."""
    lineage = fold(*before)

    with pytest.raises(LineageError, match=reason):
        lineage.apply(entry)


def test_a_restore_only_ever_raises_the_epoch() -> None:
    """Also inside a task: it says nothing about what is learned."""
    lineage = fold(OPEN, plan(1, 0, 5), Restore(epoch=5))

    assert 5 == lineage.epoch
    assert plan(1, 0, 5) == lineage.unfinished
    with pytest.raises(LineageError, match="epoch 5 is not a new one"):
        lineage.apply(Restore(epoch=5))


def test_versions_that_something_goes_on_from_are_pinned() -> None:
    """Version 0, the head, and what is served."""
    lineage = fold(OPEN, plan(1, 0, 5), accepted(1, 1), Publish(version=1))
    lineage.apply(plan(2, 5, 7, head=1))
    lineage.apply(replace(accepted(2, 2), should_publish=False))

    assert {0, 1, 2} == lineage.pinned


def test_a_task_tried_again_makes_nothing_that_was_learned_meanwhile_older() -> None:
    """Each task speaks for itself, but for one of yesterday that is learned today."""
    lineage = fold(OPEN, plan(1, 0, 5), Outcome(task=1, result="held"))
    begun = [
        (plan(2, 5, 10, head=0), 3000.0),
        (plan(3, 10, 15, head=1), 2000.0),
        (retry(1, head=2, cause="request"), 1000.0),
    ]
    for version, (entry, moment) in enumerate(begun, start=1):
        lineage.apply(entry)
        outcome = accepted(entry.task, version)
        lineage.apply(replace(outcome, figures={"newest_event_ms": moment}))
    lineage.apply(Rollback(version=4, to=1, sha256="01", cause="request"))

    found = [record.newest_event_ms for record in lineage.versions.values()]
    assert [0, 3000, 2000, 2000, 3000] == found
