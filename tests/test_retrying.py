"""The queue of tasks to be tried again: durable, and never carried out twice."""

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
