"""The queue of tasks to be tried again: durable, and never carried out twice."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from assemblies import Bench, feature_records, make_bench
from structlog.testing import capture_logs

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.commands import Answer, Command, Verb
from teacherd.daemon.entries import Outcome, Retry
from teacherd.daemon.state_directory import RETRIES


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """With tasks 2 and 3 set aside by rollbacks, and the records of a fourth."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(40))
    assembly = bench.assemble()
    begin(assembly)
    turn(assembly, lambda: assembly.learning.is_busy)
    for version in (0, 1):
        begin(assembly)
        ask(assembly, "rollback", version)
    assembly.close()
    return bench


def turn(assembly: Assembly, while_true: Callable[[], bool]) -> None:
    """Turn the loops."""
    while while_true():
        assembly.intake.tick()
        assembly.learning.tick()


def begin(assembly: Assembly) -> None:
    """Turn the loops until a task is in progress."""
    turn(assembly, lambda: not assembly.learning.is_busy)


def ask(assembly: Assembly, verb: Verb, number: int) -> Answer:
    """Have a command carried out by the next turn."""
    answer = assembly.commands.ask(Command(verb, number))
    assembly.learning.tick()
    return answer.result(timeout=0)


def num_closed(bench: Bench) -> int:
    """How many outcomes the log has."""
    return len([each for each in bench.entries() if isinstance(each, Outcome)])


def retries(bench: Bench) -> list[tuple[int, int]]:
    """Task and attempt of every retry in the log."""
    return [(each.task, each.attempt) for each in bench.entries() if isinstance(each, Retry)]


def test_what_waits_survives_a_restart_in_its_order(bench: Bench) -> None:
    """Asked for in a daemon that is then killed."""
    killed = bench.assemble()
    begin(killed)
    assert {"task": 3, "after": 4} == ask(killed, "retry", 3)
    ask(killed, "retry", 2)
    killed.close()
    again = bench.assemble()
    turn(again, lambda: num_closed(bench) < 6)
    again.close()

    assert [(3, 2), (2, 2)] == retries(bench)


def test_what_was_carried_out_is_not_taken_up_again(bench: Bench) -> None:
    """Though it was set aside once more: that is another attempt, which nobody has asked for."""
    assembly = bench.assemble()
    ask(assembly, "retry", 2)
    turn(assembly, lambda: [] == retries(bench))
    ask(assembly, "rollback", 0)
    assembly.close()
    again = bench.assemble()
    is_waiting = again.learning._retrying.is_waiting
    again.close()

    assert (2, "held") == (bench.outcomes()[-1].task, bench.outcomes()[-1].result)
    assert [(2, 2)] == retries(bench)
    assert not is_waiting


def test_a_damaged_queue_is_told_and_is_empty(bench: Bench) -> None:
    """A person can ask again; it is nothing to refuse a start for."""
    (bench.directory / "state" / RETRIES).write_text('{"waiting": [[1')
    with capture_logs() as logs:
        assembly = bench.assemble()
    assembly.close()

    assert not assembly.learning._retrying.is_waiting
    assert "retries_unreadable" in [each["event"] for each in logs]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_quarantined_task_is_learned_from_its_own_records_once_the_stream_has_none(
    tmp_path: Path, *, is_restarted: bool
) -> None:
    """They are what the plan's digest says, and stay until the task is learned, over a restart."""
    wild = {
        "epochs": 3,
        "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 1e38, "gradient_clip": 1e38},
    }
    bench = make_bench(tmp_path, learning=wild)
    bench.append(feature_records(10))
    assembly = bench.assemble()
    begin(assembly)
    turn(assembly, lambda: assembly.learning.is_busy)
    assembly.close()
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("DELETE FROM records")
        connection.execute("UPDATE log SET deleted_below = 11")
    connection.close()
    bench.settings["learning"] = {"epochs": 2}
    assembly = bench.assemble()
    ask(assembly, "retry", 1)
    begin(assembly)
    if is_restarted:
        assembly.close()
        assembly = bench.assemble()
    turn(assembly, lambda: assembly.learning.is_busy)
    assembly.close()

    assert [(1, 2), (1, 3)] == retries(bench)
    assert ["quarantined", "accepted"] == [each.result for each in bench.outcomes()]
    assert [] == list((tmp_path / "state" / "quarantine").iterdir())


def test_a_task_that_is_forgotten_meanwhile_is_tried_no_more(bench: Bench) -> None:
    """A request for a task that newer ones have pushed out is told; the next one has its turn."""
    assembly = bench.assemble()
    lineage = assembly.learning._journal.lineage
    for number in (2, 3):
        assembly.learning._retrying.add(number, lineage)
    del lineage.set_aside[2]  # as when a task is set aside between the request and its turn
    with capture_logs() as logs:
        turn(assembly, lambda: (3, 2) not in retries(bench))
    assembly.close()

    assert [2] == [each["task"] for each in logs if each["event"] == "retry_impossible"]
    assert (2, 2) not in retries(bench)
