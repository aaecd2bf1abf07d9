"""Retention as short as it can be set: whatever is deleted, the oldest kept checkpoint will do."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from assemblies import feature_records, make_bench
from forked_daemon import ForkedDaemon

from teacherd.daemon.errors import ExitCode

NUM_TASKS = 5
KEPT_CHECKPOINTS = 3


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Return settings that keep as little as they can, and records for five tasks and a half."""
    stream_log = {"path": str(tmp_path / "stream.db"), "retention_hours": 1e-9}
    bench = make_bench(
        tmp_path,
        endpoints={"port": 0},
        logging={"format": "json"},
        stream_log=stream_log,
        publication={"keep_versions": 1},
        checkpoints={"interval_seconds": 1000, "keep": KEPT_CHECKPOINTS},
    )
    bench.append(feature_records(10 * NUM_TASKS + 5))
    return bench.settings


def below(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with state and stream below another directory."""
    process = {**settings["process"], "state_directory": str(directory / "state")}
    stream_log = {**settings["stream_log"], "path": str(directory / "stream.db")}
    return {**settings, "process": process, "stream_log": stream_log}


def damage_newest_checkpoints(state: Path, number: int) -> None:
    """Flip a byte of each."""
    for folder in sorted((state / "checkpoints").iterdir(), reverse=True)[:number]:
        path = folder / "checkpoint.json"
        path.write_bytes(b"\x00" + path.read_bytes()[1:])


def test_every_kept_checkpoint_can_be_gone_on_from(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """With each newer one damaged; without any, nothing is trained on."""
    daemon = ForkedDaemon(settings, tmp_path)
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        (num_left,) = connection.execute("SELECT count(*) FROM records").fetchone()
    connection.close()
    versions = sorted(path.name for path in (tmp_path / "state/public/versions").iterdir())

    assert num_left < 10 * NUM_TASKS
    assert ["000000", "000004", "000005"] == versions  # what was served before, to go back to

    codes, ends = [], []
    for number in range(KEPT_CHECKPOINTS + 1):
        directory = tmp_path / f"damaged-{number}"
        directory.mkdir()
        shutil.copytree(tmp_path / "state", directory / "state")
        for name in ("stream.db", "stream.db-wal", "stream.db-shm"):
            if (tmp_path / name).exists():
                shutil.copy(tmp_path / name, directory / name)
        damage_newest_checkpoints(directory / "state", number)
        bench = make_bench(directory, stream_log={"path": str(directory / "stream.db")})
        bench.append(feature_records(5, seed=1))
        again = ForkedDaemon(below(directory, settings), directory)
        if number < KEPT_CHECKPOINTS:
            codes.append(again.run_until_tasks(NUM_TASKS + 1))
        else:
            again.start()
            codes.append(again.wait())
        ends.append([each.sha256 for each in again.outcomes()])

    assert [*[ExitCode.OK] * KEPT_CHECKPOINTS, ExitCode.STATE] == codes
    assert NUM_TASKS + 1 == len(ends[0])
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][:NUM_TASKS] == ends[3]
