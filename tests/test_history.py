"""The history: folded from the lineage log, the same live and after a restart, and bounded."""

import json
from pathlib import Path

from assemblies import feature_records, make_bench

from teacherd.daemon.entries import Outcome, Plan, Publish, Retry, Skip
from teacherd.daemon.history import History, sampled_values
from teacherd.daemon.lineage_log import LoggedEntry, read_lineage_log


def logged(
    entry: Plan | Outcome | Publish | Retry | Skip, at: str = "2026-01-01T00:00:00Z"
) -> LoggedEntry:
    """Return an entry as the log gives it."""
    return LoggedEntry(0, at, entry)


def plan(task: int) -> Plan:
    """Return the plan of a task of ten instances."""
    return Plan(
        task=task,
        cause="count",
        head=task - 1,
        seed=0,
        epochs=1,
        learning_rate=0.1,
        num_instances=10,
        ranges=(),
    )


def test_a_task_is_told_by_plan_outcome_and_publish() -> None:
    """What was decided, why, what it measured, and when it came to be served."""
    figures = {
        "accuracy.plain": 0.9,
        "student_accuracy.plain": 0.8,
        "forgetting.plain": 0.02,
        "holdout.base": 0.7,
        "holdout.1": 0.6,
        "drift.outer": 0.2,
        "drift.outer.threshold": 0.5,
        "outer_ratio": 0.3,
        "retain": 0.5,
    }
    outcome = Outcome(
        task=1, result="accepted", reasons=("a",), version=1, sha256="f", figures=figures
    )
    history = History()
    history.apply(logged(plan(1)))
    history.apply(logged(outcome, at="2026-01-01T00:00:01Z"))
    history.apply(logged(Publish(version=1), at="2026-01-01T00:00:02Z"))

    assert [
        {
            "task": 1,
            "at": "2026-01-01T00:00:01Z",
            "cause": "count",
            "instances": 10,
            "head": 0,
            "new_classes": [],
            "result": "accepted",
            "reasons": ["a"],
            "gate": "ungated",
            "version": 1,
            "published_at": "2026-01-01T00:00:02Z",
            "outer_ratio": 0.3,
            "teacher": {"plain": 0.9},
            "student": {"plain": 0.8},
            "forgetting": {"plain": 0.02},
            "holdouts": {"base": 0.7, "1": 0.6},
            "drift": {"outer": 0.2, "outer.threshold": 0.5},
        }
    ] == history.snapshot()["tasks"]


def test_a_task_that_is_tried_again_is_told_by_its_own_plan() -> None:
    """With the head it started from then, though others were planned since."""
    history = History()
    history.apply(logged(plan(1)))
    history.apply(logged(Outcome(task=1, result="held")))
    history.apply(logged(plan(2)))
    history.apply(logged(Outcome(task=2, result="accepted", version=1, sha256="f")))
    history.apply(
        logged(Retry(task=1, attempt=2, head=1, learning_rate=0.1, cause="request", reason="held"))
    )
    history.apply(logged(Outcome(task=1, result="accepted", version=2, sha256="f")))

    assert [
        (1, "count", 10, 0, "held"),
        (2, "count", 10, 1, "accepted"),
        (1, "count", 10, 1, "accepted"),
    ] == [
        tuple(row[name] for name in ("task", "cause", "instances", "head", "result"))
        for row in history.snapshot()["tasks"]
    ]


def test_what_is_out_of_the_ordinary_is_listed() -> None:
    """A skip is, the publication of a version is not: every accepted task has one."""
    history = History()
    history.apply(logged(Publish(version=0)))
    history.apply(logged(Skip(topic="t", partition=0, start=3, end=5, reason="gone")))

    assert [
        {
            "at": "2026-01-01T00:00:00Z",
            "topic": "t",
            "partition": 0,
            "start": 3,
            "end": 5,
            "reason": "gone",
            "kind": "skip",
        }
    ] == history.snapshot()["happenings"]


def test_a_long_lineage_leaves_a_bounded_history() -> None:
    """The newest few hundred tasks, whatever came before."""
    history = History()
    for task in range(1, 2001):
        history.apply(logged(plan(task)))
        history.apply(logged(Outcome(task=task, result="held")))
        history.apply(logged(Skip(topic="t", partition=0, start=task, end=task + 1, reason="x")))
    kept = history.snapshot()

    assert 2000 == kept["tasks"][-1]["task"]
    assert (300, 100) == (len(kept["tasks"]), len(kept["happenings"]))


def test_a_restart_knows_what_the_process_before_knew(tmp_path: Path) -> None:
    """Told live by the journal, or read from the log at the start: the same tasks."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(20))
    live = History()
    assembly = bench.assemble(history=live)
    assembly.intake.tick()
    while len(bench.outcomes()) < 2:
        assembly.learning.tick()
    assembly.close()
    again = History()
    bench.assemble(history=again).close()
    from_log = History()
    for each in read_lineage_log(tmp_path / "state" / "lineage.log"):
        from_log.apply(each)

    assert [1, 2] == [row["version"] for row in live.snapshot()["tasks"]]
    assert live.snapshot()["tasks"] == again.snapshot()["tasks"]
    assert from_log.snapshot() == again.snapshot()
    assert json.dumps(live.snapshot())


def test_samples_are_of_ages_and_of_what_waits() -> None:
    """The series that the plots over time show, by name."""
    status = {
        "ages": {"lag_seconds": 3.0, "freshness_seconds": None},
        "intake": {"lag": {"a/0": 2, "a/1": 5}},
        "buffer": {"records": 4},
    }

    assert {
        "lag_seconds": 3.0,
        "freshness_seconds": None,
        "lag_records": 7.0,
        "buffer_records": 4,
    } == sampled_values(status)
