"""Killed at any point of a task's order of events, the daemon ends with the same lineage."""

import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from assemblies import feature_records, make_bench
from crash_rig import (
    CrashRig,
    Findings,
    Kill,
    StreamLogStream,
    crash_records,
    crash_settings,
    decided,
    make_rig,
    uninterrupted,
)
from disk_faults import FailSync
from forked_daemon import ForkedDaemon
from stream_writing import append_records

from teacherd.daemon.errors import ExitCode
from teacherd.daemon.interruption import StopRequestedError

NUM_TASKS = 3
FAILPOINTS = [
    "open.before",
    "open.torn",
    "open.appended",
    "publish.before",
    "current.written",
    "current.synced",
    "current.renamed",
    "dead_letters.added",
    "plan.before",
    "plan.torn",
    "plan.written",
    "plan.appended",
    "checkpoint.made",
    "checkpoint.written",
    "checkpoint.synced",
    "checkpoint.renamed",
    "checkpoint.durable",
    "removal.renamed",
    "version.made:2",
    "version.written:2",
    "version.renamed:2",
    "version.durable:2",
    "outcome.torn",
    "outcome.appended",
    "publish.before:2",
    "publish.torn:2",
    "publish.appended:2",
    "current.renamed:2",
    "current.durable:2",
    "release.before",
    "release.done",
    "plan.torn:2",
    "outcome.torn:2",
    "version.renamed:3",
    "outcome.appended:3",
]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stream log that is enough for NUM_TASKS tasks."""
    path = tmp_path_factory.mktemp("stream") / "stream.db"
    append_records(path, crash_records(NUM_TASKS))
    return path


MakeDaemon = Callable[..., ForkedDaemon]


@pytest.fixture
def make_daemon(stream: Path, digits_base_model: Path) -> Iterator[MakeDaemon]:
    """Give a maker of daemons, each on its own copy of the stream; end them all."""
    made = []

    def make(directory: Path, **sections: dict[str, Any]) -> ForkedDaemon:
        if not (directory / "stream.db").exists():
            shutil.copy(stream, directory / "stream.db")
        merged = {**crash_settings(directory, digits_base_model), **sections}
        made.append(ForkedDaemon(merged, directory))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run that nothing happened to."""

    decided: list[tuple[int, str, int | None, str | None]]
    failpoints: list[str]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(
    stream: Path, digits_base_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """Give what every other run must come to."""
    directory = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(stream, directory / "stream.db")
    findings, failpoints, seconds = uninterrupted(
        directory,
        crash_settings(directory, digits_base_model),
        StreamLogStream(directory / "stream.db"),
        num_tasks=NUM_TASKS,
    )
    require_whole(findings, findings.decided)
    assert NUM_TASKS == len(findings.decided)
    return Undisturbed(findings.decided, failpoints, seconds)


def require_whole(
    findings: Findings, expected: list[tuple[int, str, int | None, str | None]]
) -> None:
    """Nothing lost, nothing twice, nothing left behind, the same versions."""
    assert [] == findings.wrong
    assert ([], []) == (findings.accounts.lost, findings.accounts.twice)
    assert expected == findings.decided


@pytest.fixture
def rig(stream: Path, digits_base_model: Path, tmp_path: Path) -> Iterator[CrashRig]:
    """Give a lineage to be killed."""
    rig = make_rig(tmp_path, digits_base_model, stream, num_tasks=NUM_TASKS)
    yield rig
    rig.close()


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_crash_changes_nothing(rig: CrashRig, undisturbed: Undisturbed, failpoint: str) -> None:
    """The same versions with the same weights; every record in one place; nothing left behind."""
    assert rig.kill_once(Kill(failpoint))
    require_whole(rig.finish(), undisturbed.decided)


def test_many_crashes_in_a_row_change_nothing(rig: CrashRig, undisturbed: Undisturbed) -> None:
    """Killed over and over at points and moments that nobody chose, recovery's own among them."""
    rng = random.Random(5)
    for _ in range(4):
        rig.kill_once(Kill(f"*:{rng.randrange(1, len(undisturbed.failpoints) // 2)}"))
        rig.kill_once(Kill(seconds=rng.uniform(0.05, undisturbed.seconds / 2)))
    require_whole(rig.finish(), undisturbed.decided)


@pytest.mark.parametrize("number", [2, 9, 14, 23, 31, 40])
def test_a_failed_sync_changes_nothing(
    rig: CrashRig, undisturbed: Undisturbed, tmp_path: Path, number: int
) -> None:
    """74 names the file, or what failed can be done without: a checkpoint inside a task."""
    code = rig.run_under(FailSync(str(tmp_path / "state"), number))
    log = rig.daemon.log_path.read_text()

    assert code in {ExitCode.STATE, ExitCode.OK}
    if code == ExitCode.STATE:
        assert "Input/output error" in log
        assert f"{tmp_path / 'state'}" in log
    require_whole(rig.finish(), undisturbed.decided)


def test_a_stop_inside_a_task_is_taken_up_where_it_was(
    make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """SIGTERM costs at most the running step, and the weights are those of an unbroken task."""
    long_task = {"epochs": 300, "consolidation": {"freezing_epochs": 2, "interval_epochs": 2}}
    (tmp_path / "broken").mkdir()
    (tmp_path / "whole").mkdir()
    broken = make_daemon(tmp_path / "broken", learning=long_task)
    whole = make_daemon(tmp_path / "whole", learning=long_task)
    broken.start()
    checkpoints = tmp_path / "broken" / "state" / "checkpoints"
    broken.wait_until(lambda: any(checkpoints.glob("*/learner.safetensors")))

    assert ExitCode.OK == broken.terminate()
    assert [] == broken.outcomes()
    assert ExitCode.OK == broken.run_until_tasks(1)
    assert ExitCode.OK == whole.run_until_tasks(1)
    assert decided(whole.outcomes())[0] == decided(broken.outcomes())[0]
    assert '"event": "task_resumed"' in broken.log_path.read_text()
    assert '"step": 0,' not in broken.log_path.read_text()


def test_a_start_that_recovers_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Recovery is given up between two batches, the log stays as it was, the next start does it."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(10))
    assembly = bench.assemble()
    assembly.intake.tick()
    assembly.learning.tick()
    assembly.close()
    before = bench.entries()
    bench.stop.set()
    with pytest.raises(StopRequestedError):
        bench.assemble()

    assert before == bench.entries()

    bench.stop.clear()
    again = bench.assemble()
    while again.learning.is_busy:
        again.learning.tick()
    again.close()
    assert ["accepted"] == [outcome.result for outcome in bench.outcomes()]


def test_a_process_that_is_told_to_end_while_it_starts_ends_in_order(
    make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """As soon as there is a handler for the signal, whatever the start is at."""
    daemon = make_daemon(tmp_path)
    daemon.start("plan.appended")
    assert -signal.SIGKILL == daemon.wait()
    num_before = daemon.log_path.read_text().count('"event": "listening"')
    daemon.start()
    daemon.wait_until(
        lambda: daemon.log_path.read_text().count('"event": "listening"') > num_before
    )

    assert ExitCode.OK == daemon.terminate()
    assert ExitCode.OK == daemon.run_until_tasks(1)


def test_a_planned_task_is_finished_with_the_settings_that_it_was_planned_with(
    make_daemon: MakeDaemon, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """A configuration that changed while the daemon was down is in force from the next plan."""
    daemon = make_daemon(tmp_path)
    daemon.start("plan.appended")
    assert -signal.SIGKILL == daemon.wait()
    again = make_daemon(tmp_path, learning={"epochs": 4, "batch_size": 7})

    assert ExitCode.OK == again.run_until_tasks(2)
    assert undisturbed.decided[0] == decided(again.outcomes())[0]
    assert undisturbed.decided[1] != decided(again.outcomes())[1]
    assert [6, 4] == [plan.epochs for plan in again.plans()][:2]


def test_a_changed_record_under_a_plan_is_found(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """The digest in the plan tells; nothing is trained on, and the exit code says what is gone."""
    daemon = make_daemon(tmp_path)
    daemon.start("plan.appended")
    assert -signal.SIGKILL == daemon.wait()
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("UPDATE records SET value = zeroblob(length(value)) WHERE offset = 3")
    connection.close()
    daemon.start()

    assert ExitCode.UNAVAILABLE == daemon.wait()
    assert "offsets [1, " in daemon.log_path.read_text()
    assert [] == daemon.outcomes()


def test_a_lost_task_leaves_the_weights_and_is_told(
    make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """With `continue` an outcome says that its records changed; the next task is learned."""
    daemon = make_daemon(tmp_path)
    daemon.start("plan.appended")
    assert -signal.SIGKILL == daemon.wait()
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("DELETE FROM records WHERE offset = 3")
    connection.close()
    stream_log = {"path": str(tmp_path / "stream.db"), "on_lost_records": "continue"}
    again = make_daemon(tmp_path, stream_log=stream_log)

    assert ExitCode.OK == again.run_until_tasks(2)
    lost, learned = again.outcomes()[:2]
    assert ("lost", None) == (lost.result, lost.version)
    assert "the number of records is" in lost.reasons[0]
    assert ("accepted", 1) == (learned.result, learned.version)
    plans = again.plans()
    assert plans[0].ranges[0].end == plans[1].ranges[0].start
    assert 0 == plans[1].head


def test_a_damaged_stream_log_under_a_plan_is_told(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Exit 69 with the file's name, also where only reading its rows shows the damage."""
    daemon = make_daemon(tmp_path)
    daemon.start("plan.appended")
    assert -signal.SIGKILL == daemon.wait()
    path = tmp_path / "stream.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'records'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"U" * page_bytes)
    daemon.start()

    assert ExitCode.UNAVAILABLE == daemon.wait()
    assert f"{path}: is damaged" in daemon.log_path.read_text()
    assert [] == daemon.outcomes()


@pytest.mark.parametrize("on_lost", ["stop", "continue"])
def test_lost_records_are_told_or_skipped(
    make_daemon: MakeDaemon, tmp_path: Path, on_lost: str
) -> None:
    """What is gone is named and counted by an entry of the log, never passed over silently."""
    # Of the 105 records 66 make a task, and the rest none.
    daemon = make_daemon(tmp_path, tasks={"instances": 60, "min_instances": 1})
    assert ExitCode.OK == daemon.run_until_tasks(1)
    (place,) = [closed.end for closed in daemon.plans()[-1].ranges]
    gap = (place, place + 5)
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("DELETE FROM records WHERE offset < ?", (gap[1],))
        connection.execute("UPDATE log SET deleted_below = ?", (gap[1],))
    connection.close()
    stream_log = {"path": str(tmp_path / "stream.db"), "on_lost_records": on_lost}
    again = make_daemon(
        tmp_path, stream_log=stream_log, tasks={"instances": 20, "min_instances": 1}
    )

    if on_lost == "stop":
        again.start()
        assert ExitCode.UNAVAILABLE == again.wait()
        assert f"offsets [{gap[0]}, {gap[1]}) are gone" in again.log_path.read_text()
    else:
        assert ExitCode.OK == again.run_until_tasks(2)
        assert [gap] == [(skip.start, skip.end) for skip in again.skips()]
