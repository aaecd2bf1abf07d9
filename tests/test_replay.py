"""A replay: the same weights and decisions from log and records, or a word on what differs."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from assemblies import Bench, bad_record, feature_records, make_bench
from command_line import Answer, CommandLine
from forked_daemon import ForkedDaemon
from rewritten_logs import rewrite_log

from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Entry, Outcome, Plan, Runtime
from teacherd.daemon.errors import ExitCode, StateError, UnavailableError, UsageError
from teacherd.daemon.replay_report import ReplayReport
from teacherd.daemon.replaying import replay_versions
from teacherd.daemon.version_listing import list_versions
from teacherd.models.artifact import verify_artifact, version_folder

pytestmark = pytest.mark.usefixtures("logging_left_alone")
NUM_TASKS = 4
SECTIONS: dict[str, dict[str, Any]] = {"endpoints": {"port": 0}, "logging": {"format": "json"}}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give settings, and records for four tasks with some that are none among them."""
    bench = make_bench(tmp_path, **SECTIONS)
    bench.append([*feature_records(14), bad_record(), *feature_records(10, seed=1), bad_record()])
    bench.append(feature_records(10 * NUM_TASKS - 24, seed=2))
    return bench


@pytest.fixture
def daemon(bench: Bench, tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give a daemon that runs and has learned all four."""
    daemon = ForkedDaemon(bench.settings, tmp_path)
    daemon.start()
    # Closed, and everything that follows from it done.
    daemon.wait_until(lambda: daemon.log_path.read_text().count('"task_closed"') == NUM_TASKS)
    yield daemon
    daemon.close()


@pytest.fixture
def lineage_log(daemon: ForkedDaemon) -> Path:
    """Give the log of the daemon, which has ended."""
    assert ExitCode.OK == daemon.terminate()
    return daemon.lineage_log


def replay(bench: Bench, **changes: Any) -> ReplayReport:  # noqa: ANN401 (any option)
    """Replay all that there is."""
    options: dict[str, Any] = {"target": None, "start": None, "out": None, **changes}
    config = parse(Config, bench.settings, origin="test")
    return replay_versions(config, on_task=lambda _done, _total: None, **options)


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below that a daemon at rest does not write to."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith((".log", "-shm"))
    }


def delete_records(bench: Bench, below: int) -> None:
    """Let retention have deleted all records below an offset."""
    with sqlite3.connect(bench.settings["stream_log"]["path"]) as connection:
        connection.execute("DELETE FROM records WHERE offset < ?", (below,))
        connection.execute("UPDATE log SET deleted_below = ?", (below,))
    connection.close()


def test_every_version_comes_out_the_same_beside_the_running_daemon(
    daemon: ForkedDaemon, bench: Bench, tmp_path: Path
) -> None:
    """Weights and verdicts, from version 0 on; nothing that the daemon has is changed."""
    before = contents(tmp_path)
    report = replay(bench)

    assert "equal" == report.result
    assert (0, NUM_TASKS) == (report.start, report.target)
    assert [1, 2, 3, 4] == [each.version for each in report.versions]
    assert [each.sha256 for each in daemon.outcomes()] == [each.sha256 for each in report.versions]
    assert (NUM_TASKS, (), ()) == (report.num_verdicts, report.verdicts, report.not_judged)
    assert before == contents(tmp_path)
    assert ExitCode.OK == daemon.terminate()


def test_a_lineage_with_a_history_is_followed(bench: Bench, tmp_path: Path) -> None:
    """Restarts, other settings, a task without instances, one that diverged, an unfinished one."""
    daemon = ForkedDaemon(bench.settings, tmp_path)
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)

    def go_on(number: int, **learning: Any) -> ForkedDaemon:  # noqa: ANN401 (any setting)
        tasks = {**bench.settings["tasks"], "max_records": 10, "instances": 10}
        settings = {**bench.settings, "tasks": tasks}
        settings["learning"] = {**bench.settings["learning"], **learning}
        later = ForkedDaemon(settings, tmp_path)
        if number:
            assert ExitCode.OK == later.run_until_tasks(number)
        return later

    bench.append(feature_records(10, seed=3))
    go_on(5, optimizer={"kind": "sgd", "decay": "none", "learning_rate": 1e38})
    bench.append([bad_record()] * 10)
    go_on(6, epochs=5)
    bench.append(feature_records(20, seed=4))
    last = go_on(0, epochs=2, batch_size=3)
    last.start("plan.appended:2")
    assert last.wait() < 0
    results = [each.result for each in last.outcomes()]
    report = replay(bench)

    assert [*["accepted"] * 4, "quarantined", "empty", "accepted"] == results
    assert 8 == len(last.plans())
    assert "equal" == report.result
    assert [1, 2, 3, 4, 5] == [each.version for each in report.versions]
    assert 6 == report.num_verdicts


@pytest.mark.parametrize(("start", "target"), [(0, 2), (1, 2), (2, 4)])
def test_a_part_can_be_replayed(lineage_log: Path, bench: Bench, start: int, target: int) -> None:
    """From a version that is kept to any later one; the target can be had as a folder."""
    out = lineage_log.parent.parent / "out"
    report = replay(bench, start=start, target=target, out=out)

    assert "equal" == report.result
    assert list(range(start + 1, target + 1)) == [each.version for each in report.versions]
    assert report.versions[-1].logged_sha256 == verify_artifact(out).weights_sha256


def test_where_records_are_gone_it_begins_with_the_oldest_version_possible(
    lineage_log: Path, bench: Bench
) -> None:
    """And where no version that is kept has all records since, it says so."""
    delete_records(bench, below=13)  # in the second task
    report = replay(bench)

    assert ("equal", 2, 4) == (report.result, report.start, report.target)

    rows = list_versions(parse(Config, bench.settings, origin="test"))
    assert [None, None, None, 2, 2] == [row["replay_from"] for row in rows]
    assert [False, False, False, True, True] == [row["can_replay"] for row in rows]

    with pytest.raises(UnavailableError, match="task 2 was planned but its records changed"):
        replay(bench, start=1)
    with pytest.raises(UnavailableError, match=r"version 2 cannot be replayed.*that can: 3 to 4"):
        replay(bench, target=2)

    assert lineage_log.exists()


def test_what_became_no_version_needs_no_records(bench: Bench, tmp_path: Path) -> None:
    """It left no trace: it is not judged again, and the rest comes out the same."""
    diverging = {
        **bench.settings,
        "learning": {
            "epochs": 3,
            "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 1e38},
        },
    }
    assert ExitCode.OK == ForkedDaemon(diverging, tmp_path).run_until_tasks(NUM_TASKS)
    bench.append(feature_records(10, seed=5))
    daemon = ForkedDaemon(bench.settings, tmp_path)
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS + 1)
    delete_records(bench, below=40)
    report = replay(bench)

    assert [*["quarantined"] * 4, "accepted"] == [each.result for each in daemon.outcomes()]
    assert ("equal", 0, 1) == (report.result, report.start, report.target)
    assert (1, 2, 3, 4) == report.not_judged


def test_a_record_that_has_changed_is_found(lineage_log: Path, bench: Bench) -> None:
    """The offsets are named, and nothing is made of it."""
    with sqlite3.connect(bench.settings["stream_log"]["path"]) as connection:
        connection.execute("UPDATE records SET value = zeroblob(length(value)) WHERE offset = 3")
    connection.close()

    assert lineage_log.exists()
    with pytest.raises(UnavailableError, match=r"offsets \[1, 11\).*digest"):
        replay(bench)


def test_weights_that_do_not_follow_are_told(lineage_log: Path, bench: Bench) -> None:
    """A log whose plan says something else than what was learned, checksums and all."""

    def change(entry: Entry) -> Entry:
        if isinstance(entry, Plan) and entry.task == 2:
            return replace(entry, learning_rate=entry.learning_rate * 1.01)
        return entry

    rewrite_log(lineage_log, change)
    report = replay(bench)

    assert "unequal" == report.result
    assert ["equal", *["unequal"] * 3] == [each.result for each in report.versions]
    second = report.versions[1]
    assert second.largest_difference is not None
    assert second.agreement is not None
    assert 0 < second.largest_difference < 0.1
    assert 0.5 < second.agreement <= 1
    assert 2 == report.verdicts[0].task
    assert "figures.loss.total" in report.verdicts[0].differences


def test_under_another_runtime_equality_is_not_claimed(lineage_log: Path, bench: Bench) -> None:
    """It runs all the same, and says what differs and how far apart the weights are."""

    def change(entry: Entry) -> Entry:
        if isinstance(entry, Runtime):
            return replace(entry, facts={**entry.facts, "torch": "0.1", "newer": "unknown"})
        if isinstance(entry, Plan) and entry.task == 3:
            return replace(entry, epochs=entry.epochs + 1)
        return entry

    rewrite_log(lineage_log, change)
    report = replay(bench)

    assert "other_runtime" == report.result
    assert ["equal", "equal", "other_runtime", "other_runtime"] == [
        each.result for each in report.versions
    ]
    assert {"torch": ("0.1", torch.__version__)} == report.differing_facts
    assert report.versions[2].largest_difference
    assert {"other_runtime"} == {each.result for each in report.verdicts}


def test_what_follows_from_another_runtimes_version_is_not_called_unequal(
    lineage_log: Path, bench: Bench
) -> None:
    """Made on this very machine, but from weights that it does not come to itself."""
    todays: list[Runtime] = []

    def change(entry: Entry) -> list[Entry]:
        if isinstance(entry, Runtime):
            todays.append(entry)
            return [replace(entry, facts={**entry.facts, "torch": "0.1"})]
        if isinstance(entry, Plan) and entry.task == 3:
            return [replace(entry, epochs=entry.epochs + 1)]
        if isinstance(entry, Plan) and entry.task == 4:
            return [todays[0], entry]
        return [entry]

    rewrite_log(lineage_log, change)
    report = replay(bench)

    assert ["equal", "equal", "other_runtime", "other_runtime"] == [
        each.result for each in report.versions
    ]


def test_a_version_that_is_pruned_cannot_be_compared_but_made_again(
    lineage_log: Path, bench: Bench
) -> None:
    """Whoever needs it back gets it: from its records."""
    folder = version_folder(lineage_log.parent / "public", 2)
    before = verify_artifact(folder)
    folder.rename(folder.with_name("gone"))
    out = lineage_log.parent.parent / "again"
    report = replay(bench, target=2, out=out)

    assert "equal" == report.result
    assert before.weights_sha256 == verify_artifact(out).weights_sha256
    assert before.design == verify_artifact(out).design


def test_a_verdict_that_does_not_follow_is_told(lineage_log: Path, bench: Bench) -> None:
    """By its name, as it was and as it is; the replay goes on by the log."""

    def change(entry: Entry) -> list[Entry]:
        if isinstance(entry, Outcome) and entry.task == 4:
            return [replace(entry, is_best=False)]
        return [entry]

    rewrite_log(lineage_log, change)
    report = replay(bench)

    assert "unequal" == report.result
    assert {"equal"} == {each.result for each in report.versions}
    assert [{"is_best": (False, True)}] == [each.differences for each in report.verdicts]


def test_it_computes_with_as_many_threads_as_then(lineage_log: Path, bench: Bench) -> None:
    """Bits depend on the number; the process has its own back afterwards."""

    def change(entry: Entry) -> Entry:
        if isinstance(entry, Runtime):
            return replace(entry, facts={**entry.facts, "threads": "3"})
        return entry

    rewrite_log(lineage_log, change)
    before = torch.get_num_threads()
    report = replay(bench)

    assert {} == report.differing_facts
    assert before == torch.get_num_threads()


def test_a_start_that_is_damaged_is_refused(lineage_log: Path, bench: Bench) -> None:
    """Nothing is computed from weights that are not the log's."""
    weights = version_folder(lineage_log.parent / "public", 1) / "teacher.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")

    with pytest.raises(StateError, match="000001"):
        replay(bench, start=1)

    assert "equal" == replay(bench, start=0, target=2).result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 9}, "--to: there is no version 9; versions go from 0 to 4"),
        ({"target": 0}, "--to: version 0 is what a lineage starts from"),
        ({"start": 7}, "--from: there is no version 7"),
        ({"start": 2, "target": 2}, "--from: 2 is not before version 2"),
        ({"out": Path(__file__)}, "exists already"),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    lineage_log: Path, bench: Bench, options: dict[str, Any], message: str
) -> None:
    """A wrong command line, before any work."""
    assert lineage_log.exists()
    with pytest.raises(UsageError, match=message):
        replay(bench, **options)


def test_a_stream_that_is_not_there_is_told(lineage_log: Path, bench: Bench) -> None:
    """And not made."""
    path = Path(bench.settings["stream_log"]["path"])
    path.unlink()

    assert lineage_log.exists()
    with pytest.raises(UnavailableError, match="is no file"):
        replay(bench)
    assert not path.exists()


def test_a_read_only_stream_log_takes_nothing_in(lineage_log: Path, bench: Bench) -> None:
    """It is an archive: what it cannot do it refuses."""
    log = StreamLog(StreamLogConfig(path=bench.settings["stream_log"]["path"]), is_read_only=True)

    assert lineage_log.exists()
    with pytest.raises(Exception, match="readonly"):
        log.append(feature_records(1))
    log.close()


def test_the_verb_says_by_its_exit_code_how_it_went(
    lineage_log: Path, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 equal, 1 not, 3 another runtime, 69 not possible; tables for people, JSON for programs."""
    teacherd = CommandLine(capsys)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(bench.settings))

    def run(*arguments: object) -> Answer:
        return teacherd("replay", "--config", config, *arguments)

    equal, for_people = run("--json"), run("--to", 2)
    explained = run("--to", 2, "--explain", "--json").json

    def change(entry: Entry) -> Entry:
        return replace(entry, epochs=4) if isinstance(entry, Plan) and entry.task == 4 else entry

    rewrite_log(lineage_log, change)
    unequal = run("--from", 3)
    rewrite_log(
        lineage_log,
        lambda entry: (
            replace(entry, facts={"torch": "0.1"}) if isinstance(entry, Runtime) else entry
        ),
    )
    other = run("--from", 3)
    delete_records(bench, below=100)
    gone = run("--from", 3)

    assert (0, "equal") == (equal.code, equal.json["result"])
    assert ["equal"] * 4 == [each["result"] for each in equal.json["versions"]]
    assert 0 == for_people.code
    assert "replay from version 0 to 2" == for_people.out.splitlines()[0]
    assert "2 versions, 2 decisions: equal" == for_people.err.splitlines()[-1]
    ranges = [(each["version"], each["start"], each["end"]) for each in explained]
    assert [(1, 1, 11), (2, 11, 22)] == ranges
    assert [[], [15]] == [each["rejected"] for each in explained]
    assert (1, 3, 69) == (unequal.code, other.code, gone.code)
    assert f"torch was 0.1, is {torch.__version__}" in other.err
    assert "task 4: figures.loss.total was" in unequal.err
