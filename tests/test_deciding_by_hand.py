"""Promote, roll back and retry where no daemon runs, and a promote that is killed half way."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from assemblies import Bench, feature_records, make_bench
from command_line import CommandLine, write_settings
from crash_rig import crash_records, crash_settings
from forked_daemon import ForkedDaemon
from lineages import open_state
from stream_writing import append_records
from structlog.testing import capture_logs

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.commands import Command
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.deciding_by_hand import carry_out, list_tasks
from teacherd.daemon.entries import Outcome, Publish, Retry, Rollback
from teacherd.daemon.errors import ExitCode, TemporaryError, UsageError
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.models.artifact import load_artifact, version_folder
from teacherd.models.current_pointer import read_current

OFFLINE = "this command: no daemon is running"


def config_of(bench: Bench) -> Config:
    """Return the bench's configuration, as a verb reads it."""
    return parse(Config, bench.settings, origin="test")


def learn(bench: Bench, num_tasks: int, *, and_steps: int = 0) -> None:
    """Run the daemon's parts until so many more tasks are closed, and some steps into the next."""
    assembly = bench.assemble()
    try:
        for _ in range(num_tasks):
            begin(assembly)
            while assembly.learning.is_busy:
                assembly.learning.tick()
        if and_steps:
            begin(assembly)
        for _ in range(and_steps):
            assembly.learning.tick()
    finally:
        assembly.close()


def begin(assembly: Assembly) -> None:
    """Turn the loops until a task is in progress."""
    while not assembly.learning.is_busy:
        assembly.intake.tick()
        assembly.learning.tick()


def served(directory: Path) -> int:
    """Return the version that `current` leads to."""
    return read_current(directory / "state" / "public").version


def weights(bench: Bench, version: int) -> list[torch.Tensor]:
    """Return the parameters of a version."""
    folder = version_folder(bench.directory / "state" / "public", version)
    return list(load_artifact(folder).network.parameters())


@pytest.fixture
def waiting(tmp_path: Path) -> Bench:
    """Two accepted versions that wait for approval, and the records of two more tasks."""
    bench = make_bench(tmp_path, publication={"mode": "approval"})
    bench.append(feature_records(40))
    learn(bench, 2)
    return bench


@pytest.fixture
def published(tmp_path: Path) -> Bench:
    """Two versions, both served in their turn, and the records of two more tasks."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(40))
    learn(bench, 2)
    return bench


def test_what_waits_for_approval_is_promoted_without_a_daemon(waiting: Bench) -> None:
    """The entry is the one that the daemon would have written; it goes on from there."""
    assert 0 == served(waiting.directory)
    answer = carry_out(config_of(waiting), Command("promote", 1))

    assert {"version": 1, "by": OFFLINE} == answer
    assert 1 == served(waiting.directory)
    assert Publish(version=1, cause="request", probation_tasks=3) == waiting.entries()[-1]

    learn(waiting, 1)

    assert 2 == waiting.plans()[-1].head
    assert 1 == served(waiting.directory)


def test_a_rollback_without_a_daemon_is_where_learning_goes_on(published: Bench) -> None:
    """By default to what was served before; as a new version, since loaders never go back."""
    answer = carry_out(config_of(published), Command("rollback", None))

    assert {"version": 3, "to": 1, "by": OFFLINE} == answer
    assert 3 == served(published.directory)
    assert all(map(torch.equal, weights(published, 3), weights(published, 1)))

    learn(published, 1)

    assert 3 == published.plans()[-1].head
    assert 4 == served(published.directory)


def test_a_task_that_a_stop_left_half_learned_is_closed_first(published: Bench) -> None:
    """As the running daemon does it: held, and it can be tried again."""
    learn(published, 0, and_steps=1)
    carry_out(config_of(published), Command("rollback", 0))
    outcome = published.outcomes()[-1]

    assert (3, "held", True) == (outcome.task, outcome.result, outcome.is_cut_short)
    assert isinstance(published.entries()[-1], Rollback)

    assert {"task": 3, "after": None, "by": OFFLINE} == (
        carry_out(config_of(published), Command("retry", 3))
    )
    learn(published, 1)

    assert (3, "accepted", 4) == (
        published.outcomes()[-1].task,
        published.outcomes()[-1].result,
        published.outcomes()[-1].version,
    )
    assert 3 == len(published.plans())
    assert [] == list_tasks(config_of(published))


def test_what_was_set_aside_is_listed_and_retried_in_order(published: Bench) -> None:
    """A retry waits for the next start, which learns it before any other task."""
    learn(published, 0, and_steps=1)
    config = config_of(published)
    carry_out(config, Command("rollback", 0))
    [row] = list_tasks(config)

    assert ("held", 1, 10, 2) == tuple(
        row[each] for each in ("result", "attempts", "instances", "head")
    )
    assert ["instances/0 [21, 31)"] == row["ranges"]

    before = published.entries()
    carry_out(config, Command("retry", 3))
    carry_out(config, Command("retry", 3))

    assert before == published.entries()

    learn(published, 1)

    assert [
        Retry(task=3, attempt=2, head=3, learning_rate=0.001, cause="request", reason="held")
    ] == [each for each in published.entries() if isinstance(each, Retry)]
    with pytest.raises(UsageError, match=r"task 3 was not set aside.*are: none"):
        carry_out(config, Command("retry", 3))


def test_a_retry_whose_records_are_gone_holds_up_no_start(published: Bench) -> None:
    """It is given up, as a running daemon would: `stop` is about what was never learned."""
    learn(published, 0, and_steps=1)
    config = config_of(published)
    carry_out(config, Command("rollback", 0))
    with closing(sqlite3.connect(published.directory / "stream.db")) as stream:
        stream.execute("DELETE FROM records")
        stream.commit()
    carry_out(config, Command("retry", 3))
    published.append(feature_records(10, seed=9))
    with capture_logs() as logs:
        learn(published, 1)

    assert ["retry_impossible"] == [each["event"] for each in logs if each["log_level"] == "error"]
    assert [1, 2, 3, 4] == [plan.task for plan in published.plans()]


@pytest.mark.parametrize(
    ("verb", "number", "told"),
    [
        ("promote", 9, "there is no version 9; versions go from 0 to 2"),
        ("promote", 2, "version 2 is served already"),
        ("promote", 1, "version 1 is older than 2, which is served"),
        ("promote", None, "promote needs the number of a version"),
        ("rollback", 2, "version 2 is served already"),
        ("rollback", 7, "there is no version 7"),
        ("retry", 1, "task 1 was not set aside"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    published: Bench, verb: str, number: int | None, told: str
) -> None:
    """In the daemon's own words, with nothing written."""
    log = (published.directory / "state" / "lineage.log").read_bytes()

    with pytest.raises(UsageError, match=told):
        carry_out(config_of(published), Command(verb, number))  # type: ignore[arg-type]  # one of them
    assert log == (published.directory / "state" / "lineage.log").read_bytes()
    assert 2 == served(published.directory)


def test_a_rollback_that_was_decided_is_finished_before_anything_else(published: Bench) -> None:
    """As the daemon's start would: a failed probation whose rollback a crash prevented."""
    before = published.entries()
    learn(published, 0, and_steps=1)
    _append_failed_probation(published)
    answer = carry_out(config_of(published), Command("rollback", 0))
    made = [each for each in published.entries()[len(before) :] if isinstance(each, Rollback)]

    assert [(3, 1, "probation"), (4, 0, "request")] == [
        (each.version, each.to, each.cause) for each in made
    ]
    assert 4 == answer["version"] == served(published.directory)


def _append_failed_probation(bench: Bench) -> None:
    """Write what a daemon writes that is killed right after it: no rollback yet."""
    state = open_state(bench.directory / "state")
    state.journal.record(
        Outcome(task=3, result="held", reasons=("worse",), is_cut_short=True, rolls_back_to=1)
    )
    state.close()


def test_a_directory_that_somebody_holds_is_left_alone(published: Bench) -> None:
    """A daemon that is starting takes no commands yet: nothing is written beside it."""
    assembly = published.assemble()
    try:
        with pytest.raises(TemporaryError):
            carry_out(config_of(published), Command("rollback", 0))
    finally:
        assembly.close()

    assert not [each for each in published.entries() if isinstance(each, Rollback)]


def test_the_verbs_say_what_they_did(
    published: Bench, capsys: pytest.CaptureFixture[str], logging_left_alone: None
) -> None:
    """In a sentence, and as JSON with the same facts; what is refused ends with 2."""
    assert logging_left_alone is None
    run = CommandLine(capsys)
    sections = {each: published.settings[each] for each in ("process", "stream_log", "gate")}
    path = write_settings(
        published.directory, base=Path(published.settings["model"]["base"]), **sections
    )
    said = run("rollback", "--config", path)

    assert 0 == said.code
    assert f"version 3, with the weights of 1, is served now, by {OFFLINE}" in " ".join(
        (said.out + said.err).split()
    )
    assert {"version": 4, "to": 0, "by": OFFLINE} == (
        run("rollback", "0", "--config", path, "--json").json
    )
    assert ExitCode.USAGE == run("promote", "2", "--config", path).code
    assert [] == run("tasks", "list", "--config", path, "--json").json


@pytest.mark.parametrize(
    ("failpoint", "has_happened"),
    [
        ("publish.before", False),
        ("publish.torn", False),
        ("publish.appended", True),
        ("current.written", True),
        ("current.renamed", True),
    ],
)
def test_a_crash_inside_a_promote_leaves_one_story(
    tmp_path: Path, digits_base_model: Path, failpoint: str, *, has_happened: bool
) -> None:
    """Entry first, then `current`: the next start makes them agree, and serves just that."""
    settings = crash_settings(tmp_path, digits_base_model)
    settings["publication"] = {"mode": "approval"}
    append_records(settings["stream_log"]["path"], crash_records(2))
    daemon = ForkedDaemon(settings, tmp_path)
    try:
        assert ExitCode.OK == daemon.run_until_tasks(2)
        daemon.die_of(Command("promote", 1), failpoint)
        daemon.start()
        daemon.wait_until_started()
        assert ExitCode.OK == daemon.terminate()
    finally:
        daemon.close()
    _, lineage = read_lineage(tmp_path / "state")
    expected = 1 if has_happened else 0

    assert expected == lineage.current == served(tmp_path)
    assert 2 == lineage.head
