"""Killed at any point of a task's order of events, the daemon ends with the same lineage."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from base_models import digits
from forked_daemon import ForkedDaemon

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.entries import Outcome, Plan
from teacherd.daemon.errors import ExitCode
from teacherd.models.hot_teacher import HotTeacher

TASK_INSTANCES = 30
NUM_TASKS = 3
FAILPOINTS = [
    "open.before",
    "open.torn",
    "open.appended",
    "publish.before",
    "current.written",
    "current.synced",
    "current.renamed",
    "plan.before",
    "plan.torn",
    "plan.written",
    "plan.appended",
    "checkpoint.written",
    "checkpoint.synced",
    "checkpoint.renamed",
    "version.written:2",
    "version.synced:2",
    "version.renamed:2",
    "outcome.before",
    "outcome.torn",
    "outcome.appended",
    "publish.before:2",
    "publish.torn:2",
    "publish.appended:2",
    "current.written:2",
    "current.renamed:2",
    "plan.torn:2",
    "plan.appended:2",
    "outcome.torn:2",
    "version.renamed:3",
    "outcome.appended:3",
]


def settings(directory: Path, base: Path) -> dict[str, Any]:
    """Return what makes a small, quick daemon below a directory."""
    return {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1},
        "learning": {"epochs": 6, "consolidation": {"freezing_epochs": 2, "interval_epochs": 2}},
        "checkpoints": {"interval_seconds": 0.001},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }


def write_stream(path: Path, num_records: int) -> None:
    """Append digits, every tenth of them a record that is none."""
    data = digits()
    log = StreamLog(StreamLogConfig(path=str(path)))
    log.append(
        build_record(
            b"no array" if place % 10 == 9 else encode_npy(data.inputs[place]),
            content_type=NPY,
            label=int(data.labels[place]),
        )
        for place in range(num_records)
    )
    log.close()


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stream log that is enough for NUM_TASKS tasks."""
    path = tmp_path_factory.mktemp("stream") / "stream.db"
    write_stream(path, (TASK_INSTANCES * NUM_TASKS * 10) // 9 + 5)
    return path


MakeDaemon = Callable[..., ForkedDaemon]


@pytest.fixture
def make_daemon(stream: Path, digits_base_model: Path) -> Iterator[MakeDaemon]:
    """Give a maker of daemons, each on its own copy of the stream; end them all."""
    made = []

    def make(directory: Path, **sections: dict[str, Any]) -> ForkedDaemon:
        if not (directory / "stream.db").exists():
            shutil.copy(stream, directory / "stream.db")
        merged = {**settings(directory, digits_base_model), **sections}
        made.append(ForkedDaemon(merged, directory))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture(scope="module")
def uninterrupted(
    stream: Path, digits_base_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Outcome]:
    """Give the outcomes of a run that nothing happened to."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(stream, directory / "stream.db")
    daemon = ForkedDaemon(settings(directory, digits_base_model), directory)
    try:
        code = daemon.run_until_tasks(NUM_TASKS)
    finally:
        daemon.close()
    assert ExitCode.OK == code
    return daemon.outcomes()


def decided(outcomes: list[Outcome]) -> list[tuple[int, str, int | None, str | None]]:
    """Return what must be equal: task, result, version, sha256 of the weights."""
    return [(each.task, each.result, each.version, each.sha256) for each in outcomes]


def learned_offsets(plans: list[Plan]) -> list[int]:
    """Return every offset of the plans' ranges, in their order."""
    return [
        offset
        for plan in plans
        for closed in plan.ranges
        for offset in range(closed.start, closed.end)
    ]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_crash_changes_nothing(
    make_daemon: MakeDaemon,
    tmp_path: Path,
    uninterrupted: list[Outcome],
    failpoint: str,
) -> None:
    """The same versions with the same weights; every offset in one plan; nothing left behind."""
    daemon = make_daemon(tmp_path)
    daemon.start(failpoint)

    assert -signal.SIGKILL == daemon.wait()
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    assert decided(uninterrupted) == decided(daemon.outcomes())
    offsets = learned_offsets(daemon.plans())
    assert list(range(offsets[0], offsets[-1] + 1)) == offsets
    assert 1 == offsets[0]
    public = tmp_path / "state" / "public"
    assert [f"{version:06d}" for version in range(NUM_TASKS + 1)] == sorted(
        path.name for path in (public / "versions").iterdir()
    )
    assert [] == list((tmp_path / "state").rglob(".tmp-*"))
    with HotTeacher(public) as teacher:
        assert NUM_TASKS == teacher.version


def test_many_crashes_in_a_row_change_nothing(
    make_daemon: MakeDaemon, tmp_path: Path, uninterrupted: list[Outcome]
) -> None:
    """Killed by the clock over and over, at moments that nobody chose."""
    daemon = make_daemon(tmp_path)
    rng = np.random.default_rng(0)
    num_kills = 0
    while len(daemon.outcomes()) < NUM_TASKS and num_kills < 40:
        before = daemon.log_path.stat().st_size
        daemon.start()
        daemon.wait_until(lambda size=before: daemon.log_path.stat().st_size > size)
        time.sleep(rng.uniform(0.01, 0.12))
        daemon.kill()
        num_kills += 1

    assert num_kills > 0
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    assert decided(uninterrupted) == decided(daemon.outcomes())


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


def test_a_planned_task_is_finished_with_the_settings_that_it_was_planned_with(
    make_daemon: MakeDaemon, tmp_path: Path, uninterrupted: list[Outcome]
) -> None:
    """A configuration that changed while the daemon was down is in force from the next plan."""
    daemon = make_daemon(tmp_path)
    daemon.start("plan.appended")
    assert -signal.SIGKILL == daemon.wait()
    again = make_daemon(tmp_path, learning={"epochs": 4, "batch_size": 7})

    assert ExitCode.OK == again.run_until_tasks(2)
    assert decided(uninterrupted)[0] == decided(again.outcomes())[0]
    assert decided(uninterrupted)[1] != decided(again.outcomes())[1]
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
    process = {"state_directory": str(tmp_path / "state"), "on_lost_records": on_lost}
    again = make_daemon(tmp_path, process=process, tasks={"instances": 20, "min_instances": 1})

    if on_lost == "stop":
        again.start()
        assert ExitCode.UNAVAILABLE == again.wait()
        assert f"offsets [{gap[0]}, {gap[1]}) are gone" in again.log_path.read_text()
    else:
        assert ExitCode.OK == again.run_until_tasks(2)
        assert [gap] == [(skip.start, skip.end) for skip in again.skips()]
