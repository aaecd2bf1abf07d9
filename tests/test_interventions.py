"""Promote, rollback, retry and probation in the daemon's parts, turned by hand."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from assemblies import Bench, feature_records, make_bench
from crash_rig import crash_settings
from forked_daemon import ForkedDaemon
from stream_writing import append_digits

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.commands import Answer, Command, Verb
from teacherd.daemon.deferral import Sorted
from teacherd.daemon.deferring import ReadyTask
from teacherd.daemon.entries import Arrivals, Outcome, Publish, Retry, Rollback
from teacherd.daemon.errors import ExitCode, UsageError
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.models.artifact import load_artifact, version_folder
from teacherd.models.current_pointer import read_current

Start = Callable[..., tuple[Bench, Assembly]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a maker of assembled daemons; close them all."""
    made: list[Assembly] = []

    def begin(num_records: int = 0, **sections: dict[str, Any]) -> tuple[Bench, Assembly]:
        bench = make_bench(tmp_path, **sections)
        if num_records:
            bench.append(feature_records(num_records))
        made.append(bench.assemble())
        return bench, made[-1]

    yield begin
    for assembly in made:
        assembly.close()


def learn(assembly: Assembly, number: int = 1) -> None:
    """Turn the loops until so many more tasks are closed."""
    for _ in range(number):
        begin_task(assembly)
        finish_task(assembly)


def begin_task(assembly: Assembly) -> None:
    """Turn the loops until a task is in progress."""
    while not assembly.learning.is_busy:
        assembly.intake.tick()
        assembly.learning.tick()


def finish_task(assembly: Assembly) -> None:
    """Turn the loop until no task is in progress."""
    while assembly.learning.is_busy:
        assembly.learning.tick()


def ask(assembly: Assembly, verb: Verb, number: int | None = None) -> Answer:
    """Have a command carried out by the next turn."""
    answer = assembly.commands.ask(Command(verb, number))
    assembly.learning.tick()
    return answer.result(timeout=0)


def entries(bench: Bench) -> list[Any]:
    """Return the entries of the lineage log."""
    return [each.entry for each in read_lineage_log(bench.directory / "state" / "lineage.log")]


def served(bench: Bench) -> int:
    """Return the version that `current` leads to."""
    return read_current(bench.directory / "state" / "public").version


def weights(bench: Bench, version: int) -> list[torch.Tensor]:
    """Return the weights of a version."""
    folder = version_folder(bench.directory / "state" / "public", version)
    return list(load_artifact(folder).network.state_dict().values())


def test_a_rollback_is_a_new_version_of_old_weights(start: Start) -> None:
    """Loaders never see a smaller number; the next task starts from it."""
    bench, assembly = start(40)
    learn(assembly, 3)

    assert {"version": 4, "to": 1} == ask(assembly, "rollback", 1)
    assert 4 == served(bench)
    for old, new in zip(weights(bench, 1), weights(bench, 4), strict=True):
        assert torch.equal(old, new)
    assert 1.0 == bench.value("rollbacks_total", cause="request")

    learn(assembly)

    assert (4, 4) == (bench.plans()[-1].head, bench.plans()[-1].task)
    assert 5 == served(bench)


def test_without_a_number_the_one_served_before_comes_back(start: Start) -> None:
    """Once more goes one further back, not forth again."""
    _, assembly = start(40)
    learn(assembly, 3)

    assert 2 == ask(assembly, "rollback")["to"]
    assert 1 == ask(assembly, "rollback")["to"]
    assert 0 == ask(assembly, "rollback")["to"]
    with pytest.raises(UsageError, match="nothing was served before"):
        ask(assembly, "rollback")


def test_a_task_in_training_is_closed_as_held_first(start: Start) -> None:
    """It was learned from what is no longer trusted; it can be tried again."""
    bench, assembly = start(20)
    learn(assembly)
    begin_task(assembly)
    ask(assembly, "rollback", 0)
    kinds = [type(each) for each in entries(bench)[-2:]]

    assert [Outcome, Rollback] == kinds
    assert ("held", True) == (bench.outcomes()[-1].result, bench.outcomes()[-1].is_cut_short)
    assert not assembly.learning.is_busy

    assert {"task": 2, "after": None} == ask(assembly, "retry", 2)

    learn(assembly)
    retry = next(each for each in entries(bench) if isinstance(each, Retry))

    assert (2, 2, 2, "request") == (retry.task, retry.attempt, retry.head, retry.cause)
    assert (2, "accepted", 3) == (
        bench.outcomes()[-1].task,
        bench.outcomes()[-1].result,
        bench.outcomes()[-1].version,
    )
    assert 2 == len(bench.plans())


def test_a_task_that_was_cut_short_says_nothing_of_what_learning_costs(start: Start) -> None:
    """Headroom, and the epochs of the next plan, would be those of a machine twice as fast."""
    bench, assembly = start(30, learning={"epochs": 3})
    begin_task(assembly)
    while assembly.learning.is_busy:
        bench.clock.seconds += 10
        assembly.learning.tick()
    cost = assembly._load._epoch_seconds
    begin_task(assembly)
    ask(assembly, "rollback", 0)

    assert cost
    assert "held" == bench.outcomes()[-1].result
    assert cost == assembly._load._epoch_seconds


def test_learning_goes_on_from_the_rolled_back_weights(start: Start, tmp_path: Path) -> None:
    """As if what came after them had never been: bit for bit, also after a restart."""
    bench, assembly = start(40)
    learn(assembly, 2)
    ask(assembly, "rollback", 1)
    assembly.close()
    _, again = start()
    learn(again)
    found = weights(bench, 4)
    expected_bench, expected = start_in(tmp_path / "other", bench)
    learn(expected, 2)
    ask(expected, "rollback", 1)
    learn(expected)
    expected.close()

    assert all(torch.equal(a, b) for a, b in zip(found, weights(expected_bench, 4), strict=True))


def start_in(directory: Path, like: Bench) -> tuple[Bench, Assembly]:
    """Start another lineage on a copy of a stream."""
    directory.mkdir()
    bench = make_bench(directory)
    (directory / "stream.db").write_bytes((like.directory / "stream.db").read_bytes())
    return bench, bench.assemble()


@pytest.mark.parametrize(
    ("verb", "number", "told"),
    [
        ("rollback", 9, "there is no version 9; versions go from 0 to 2"),
        ("rollback", 2, "version 2 is served already"),
        ("promote", 9, "there is no version 9"),
        ("promote", 2, "version 2 is served already"),
        ("promote", 1, "older than 2.*teacherd rollback 1"),
        ("promote", None, "needs the number"),
        ("retry", 1, "task 1 was not set aside.*are: none"),
        ("retry", None, "needs the number"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    start: Start, verb: Verb, number: int | None, told: str
) -> None:
    """The daemon goes on; the log is as it was."""
    bench, assembly = start(20)
    learn(assembly, 2)
    before = len(entries(bench))

    with pytest.raises(UsageError, match=told):
        ask(assembly, verb, number)

    assert before == len(entries(bench))


def test_what_was_pruned_cannot_come_back(start: Start) -> None:
    """The message says why, and where to look."""
    _, assembly = start(60, publication={"keep_versions": 1})
    learn(assembly, 5)

    with pytest.raises(UsageError, match="keep_versions"):
        ask(assembly, "rollback", 1)

    assert 4 == ask(assembly, "rollback")["to"]


@pytest.mark.parametrize("mode", ["approval", "never"])
def test_what_nobody_asked_for_is_never_served(start: Start, mode: str) -> None:
    """Not by learning, and not by a restart."""
    bench, assembly = start(20, publication={"mode": mode})
    learn(assembly, 2)
    assembly.close()
    _, again = start(publication={"mode": mode})
    again.close()
    _, automatic = start()

    assert 0 == served(bench)
    assert [0] == [each.version for each in entries(bench) if isinstance(each, Publish)]
    assert 2 == automatic.learning._journal.lineage.head


def test_a_person_promotes_what_waits_for_approval(start: Start) -> None:
    """The head stays where it is; the newest or an older one may be served."""
    bench, assembly = start(30, publication={"mode": "approval"})
    learn(assembly, 3)
    ask(assembly, "promote", 2)

    assert 2 == served(bench)
    assert 3 == assembly.learning._journal.lineage.head

    ask(assembly, "promote", 3)

    assert 3 == served(bench)
    assert ["gate", "request", "request"] == [
        each.cause for each in entries(bench) if isinstance(each, Publish)
    ]


@pytest.mark.parametrize("verb", ["promote", "rollback"])
def test_a_damaged_version_is_refused_and_the_daemon_goes_on(start: Start, verb: Verb) -> None:
    """Nothing has happened, and what is served is another one."""
    bench, assembly = start(40, publication={"mode": "approval"})
    learn(assembly, 3)
    (weights,) = version_folder(bench.directory / "state" / "public", 2).glob("*.safetensors")
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")

    with pytest.raises(UsageError, match=r"version 2 cannot be trusted: .*versions verify"):
        ask(assembly, verb, 2)

    decided = [each for each in entries(bench) if isinstance(each, Publish | Rollback)]

    assert [Publish(version=0)] == decided
    assert 0 == served(bench)

    learn(assembly)

    assert 4 == len(bench.outcomes())


def test_in_the_shadow_nobody_can(start: Start) -> None:
    """Another mode has to be chosen first."""
    _, assembly = start(10, publication={"mode": "never"})
    learn(assembly)

    with pytest.raises(UsageError, match=r"publication\.mode is never"):
        ask(assembly, "promote", 1)


def spoil(assembly: Assembly, monkeypatch: pytest.MonkeyPatch, *, lost: int) -> None:
    """Let the served version be wrong about so many of what arrives, and the one before right.

    Networks of a few weights cannot be made that bad to order; all that follows is real.
    """
    reader = assembly.learning._core.arrivals
    read = reader.read

    def arrivals(*arguments: Any) -> Arrivals:  # noqa: ANN401 (passed on)
        return replace(read(*arguments), won=0, lost=lost)

    monkeypatch.setattr(reader, "read", arrivals)


def test_a_version_that_fails_its_probation_is_rolled_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, before anything is learned from it; what arrived is learned from before it."""
    bench, assembly = start(30)
    learn(assembly, 2)
    with monkeypatch.context() as bad:
        spoil(assembly, bad, lost=6)
        assembly.intake.tick()
        assembly.learning.tick()
    outcome, rollback = entries(bench)[-2:]

    assert ("held", True, 1) == (outcome.result, outcome.is_cut_short, outcome.rolls_back_to)
    assert "version 2 failed its probation: of 10 instances" in outcome.reasons[0]
    assert (3, 1, "probation") == (rollback.version, rollback.to, rollback.cause)
    assert 3 == served(bench)

    learn(assembly)

    assert (3, "accepted", 4) == (
        bench.outcomes()[-1].task,
        bench.outcomes()[-1].result,
        bench.outcomes()[-1].version,
    )
    assert 3 == len(bench.plans())
    assert 1.0 == bench.value("task_retries_total", cause="probation")


def test_a_resumed_task_may_fail_the_probation_too(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bits, of a GPU or a newer torch, may tip the balance that held when it was begun."""
    bench, assembly = start(30)
    learn(assembly, 2)
    assembly.intake.tick()
    assert assembly._buffer is not None
    task = assembly._buffer.cut("count")
    plan = assembly.learning._plan(ReadyTask(task, Sorted(), age_seconds=0.0))
    with monkeypatch.context() as bad:
        spoil(assembly, bad, lost=6)
        assembly.learning.resume(plan, task, {})

    assert ["outcome", "rollback"] == [each.kind for each in entries(bench)[-2:]]
    assert not assembly.learning.is_busy


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_a_failed_probation_put_off_is_learned_as_it_was_planned(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, is_restarted: bool
) -> None:
    """Before anything else, with the plan's learning rate, also by a process that knows the log."""
    bench, assembly = start(60)
    learn(assembly, 2)
    with monkeypatch.context() as bad:
        # As after an alarm, with drift.learning_rate_factor.
        bad.setattr(type(assembly.learning._core.drift), "learning_rate_factor", lambda *_: 2.0)
        spoil(assembly, bad, lost=6)
        assembly.intake.tick()
        assembly.learning.tick()
    if is_restarted:
        assembly.close()
        assembly = start()[1]
    learn(assembly, 2)
    retry = next(each for each in entries(bench) if isinstance(each, Retry))

    assert (3, "probation") == (retry.task, retry.cause)
    first, _, again = (each.learning_rate for each in bench.plans()[:3])
    assert 2 * first == again == retry.learning_rate
    assert [3, 3, 4] == [each.task for each in bench.outcomes()[2:]]
    assert None is assembly.learning._journal.lineage.due_retry


def test_a_version_that_does_as_well_ends_its_probation(start: Start) -> None:
    """Three tasks at the defaults; each promotion begins a new one."""
    _, assembly = start(60, publication={"mode": "approval"})
    learn(assembly)
    ask(assembly, "promote", 1)
    standing = assembly.learning._journal.lineage.standing
    left = []
    for _ in range(4):
        left.append(standing.probation.tasks_left if standing.probation else 0)
        learn(assembly)

    assert [3, 2, 1, 0] == left


@pytest.mark.parametrize(
    ("failpoint", "has_happened"),
    [
        ("version.renamed", False),
        ("rollback.before", False),
        ("rollback.torn", False),
        ("rollback.appended", True),
        ("checkpoint.renamed", True),
        ("serving.before", True),
        ("current.written", True),
        ("current.renamed", True),
    ],
)
def test_a_crash_inside_a_rollback_leaves_one_story(
    tmp_path: Path, digits_base_model: Path, failpoint: str, *, has_happened: bool
) -> None:
    """Either it has not happened, or all of it has: head, current and files agree with the log."""
    settings = crash_settings(tmp_path, digits_base_model)
    settings["tasks"] = {"instances": 10, "min_instances": 1}
    append_digits(tmp_path / "stream.db", 0, 30)
    daemon = ForkedDaemon(settings, tmp_path)
    try:
        assert ExitCode.OK == daemon.run_until_tasks(3)
        daemon.die_of(Command("rollback", 1), failpoint)
        found = any(isinstance(each, Rollback) for each in daemon.entries())
        daemon.start()
        daemon.wait_until_started()
        assert ExitCode.OK == daemon.terminate()
    finally:
        daemon.close()
    public = tmp_path / "state" / "public"
    expected = 4 if has_happened else 3

    assert has_happened == found
    assert expected == read_current(public).version
    assert expected + 1 == len(list((public / "versions").iterdir()))
