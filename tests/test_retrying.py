"""The queue of tasks to be tried again: durable, and never carried out twice."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from assemblies import Bench, feature_records, make_bench
from structlog.testing import capture_logs

from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import SourceError
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.checkpoint import CheckpointConfig
from teacherd.daemon.commands import Answer, Command, Verb
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Outcome, Retry
from teacherd.daemon.publisher import HELD_BY_ROLLBACK
from teacherd.daemon.state_directory import RETRIES

PARTITION = Partition("instances", 0)
WILD = {
    "epochs": 3,
    "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 1e38, "gradient_clip": 1e38},
}
"""Settings under which no task can be learned."""


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
    bench = make_bench(tmp_path, learning=WILD)
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


def be_away(_: object) -> Iterator[RecordBatch]:
    """Read nothing, as a stream that does not answer."""
    raise SourceError("away")
    yield


def test_a_task_that_cannot_be_read_again_lets_others_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new is learned meanwhile; the task has its turn as soon as it can be read."""
    assembly = bench.assemble()
    turn(assembly, lambda: num_closed(bench) < 4)
    with monkeypatch.context() as away:
        away.setattr(assembly.intake._source, "read", be_away)
        ask(assembly, "retry", 2)
        bench.append(feature_records(20))
        turn(assembly, lambda: num_closed(bench) < 6)
        assert [] == retries(bench)
    bench.clock.seconds += 60
    turn(assembly, lambda: num_closed(bench) < 7)
    assembly.close()

    assert [(2, 2)] == retries(bench)
    assert [5, 6, 2] == [each.task for each in bench.outcomes()][-3:]


def test_nothing_passes_a_task_that_a_failed_probation_put_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes first, whatever was asked for before, and waits for its records."""
    assembly = bench.assemble()
    turn(assembly, lambda: num_closed(bench) < 4)
    lineage = assembly.learning._journal.lineage
    ask(assembly, "retry", 2)
    lineage.due_retry = 3  # as after the rollback of a failed probation
    assembly.learning._retrying.add(3, lineage)
    with monkeypatch.context() as away:
        away.setattr(assembly.intake._source, "read", be_away)
        bench.append(feature_records(10))
        for _ in range(5):
            assembly.intake.tick()
            assembly.learning.tick()
        assert not assembly.learning.is_busy
    bench.clock.seconds += 60
    turn(assembly, lambda: num_closed(bench) < 7)
    assembly.close()

    assert [(3, 2), (2, 2)] == retries(bench)
    assert [3, 2, 5] == [each.task for each in bench.outcomes()][-3:]


def test_records_of_a_task_that_waits_to_be_tried_again_are_kept(tmp_path: Path) -> None:
    """From the request on retention spares them, though it would delete all that is decided."""
    bench = make_bench(tmp_path, checkpoints={"keep": 1})
    bench.settings["stream_log"]["retention_bytes"] = 1
    bench.append(feature_records(20))
    assembly = bench.assemble()
    turn(assembly, lambda: num_closed(bench) < 1)
    begin(assembly)
    ask(assembly, "rollback", 0)
    ask(assembly, "retry", 2)
    turn(assembly, lambda: num_closed(bench) < 3)
    turn(assembly, lambda: assembly.intake._source.earliest()[PARTITION] < 21)
    assembly.close()

    assert ["accepted", "held", "accepted"] == [each.result for each in bench.outcomes()]


def test_a_rollback_does_not_wait_for_a_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream may be away for a night. The task is held, says both, and can be tried again."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(20))
    assembly = bench.assemble()
    turn(assembly, lambda: num_closed(bench) < 1)
    wild = parse(Config, {**bench.settings, "learning": WILD}, origin="test")
    assembly.learning.reconfigure(wild.deciding, CheckpointConfig())
    quarantining = assembly.learning._quarantining
    with monkeypatch.context() as away:
        away.setattr(assembly.intake._source, "read", be_away)
        turn(assembly, lambda: not quarantining.is_running)
        assembly.intake.tick()
        assert {"version": 2, "to": 0} == ask(assembly, "rollback", 0)
    (_, held) = bench.outcomes()
    assert "held" == held.result
    assert [HELD_BY_ROLLBACK, "is nan"] == [held.reasons[0], held.reasons[1][-6:]]

    calm = parse(Config, bench.settings, origin="test")
    assembly.learning.reconfigure(calm.deciding, CheckpointConfig())
    bench.clock.seconds += 60
    ask(assembly, "retry", 2)
    turn(assembly, lambda: num_closed(bench) < 3)
    assembly.close()

    assert (2, "accepted") == (bench.outcomes()[-1].task, bench.outcomes()[-1].result)
    assert [] == list((tmp_path / "state" / "quarantine").iterdir())
