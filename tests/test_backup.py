"""A backup: taken beside a running daemon, whole, and a lineage that can be gone on with."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from assemblies import Bench, bad_record, feature_records, make_bench
from command_line import Answer, CommandLine, write_settings
from forked_daemon import ForkedDaemon

from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.daemon.backup import BackupContent, copy_records, make_backup, read_backup
from teacherd.daemon.checkpoint import CheckpointStore
from teacherd.daemon.durable import failpoints
from teacherd.daemon.errors import ExitCode, StateError, UnavailableError, UsageError
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.models.artifact import verify_artifact, version_folder

NOW = "2030-01-01T00:00:00.000+00:00"
NUM_TASKS = 8
SECTIONS: dict[str, dict[str, Any]] = {
    "endpoints": {"port": 0},
    "logging": {"format": "json"},
    "checkpoints": {"interval_seconds": 0.001, "keep": 1},
    "publication": {"keep_versions": 1},
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give settings and records for eight tasks; checkpoints and versions come and go quickly."""
    bench = make_bench(tmp_path, **SECTIONS)
    bench.append([*feature_records(4), bad_record(), *feature_records(10 * NUM_TASKS, seed=1)])
    return bench


@pytest.fixture
def daemon(bench: Bench, tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give a daemon that is not started."""
    daemon = ForkedDaemon(bench.settings, tmp_path)
    yield daemon
    daemon.close()


@pytest.fixture
def learned(daemon: ForkedDaemon) -> ForkedDaemon:
    """Give a daemon that has learned everything and ended."""
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    return daemon


def back_up(directory: Path, name: str = "backup", **changes: Any) -> BackupContent:  # noqa: ANN401
    """Back up the state below a directory."""
    options: dict[str, Any] = {"stream_log": None, "all_versions": False, **changes}
    return make_backup(
        directory / "state", directory / name, now=NOW, on_progress=lambda _a, _b: None, **options
    )


def test_backups_taken_while_it_learns_are_whole_and_go_on_to_the_same_versions(
    tmp_path: Path,
) -> None:
    """At every moment: log, checkpoint and versions fit, and the records lead to the same end."""
    bench = make_bench(tmp_path, **SECTIONS)
    daemon = ForkedDaemon(bench.settings, tmp_path)
    daemon.start()
    daemon.wait_until_started()
    contents = []
    for number in range(1, NUM_TASKS + 1):
        bench.append(feature_records(10, seed=number))
        while len(daemon.outcomes()) < number:
            contents.append(back_up(tmp_path, f"backup-{len(contents)}"))
    assert ExitCode.OK == daemon.terminate()
    ends = [each.sha256 for each in daemon.outcomes()]
    several = {content.tasks: place for place, content in enumerate(contents)}
    assert len(several) > 1

    for place, content in enumerate(contents):
        assert content == read_backup(tmp_path / f"backup-{place}")
    for place in (min(several.values()), max(several.values())):
        process = {"state_directory": str(tmp_path / f"backup-{place}" / "state")}
        again = ForkedDaemon({**bench.settings, "process": {**process, "num_threads": 1}}, tmp_path)
        assert ExitCode.OK == again.run_until_tasks(NUM_TASKS)
        assert ends == [each.sha256 for each in again.outcomes()]


def test_it_holds_what_learning_goes_on_from(learned: ForkedDaemon, tmp_path: Path) -> None:
    """The newest checkpoint, the log up to it, and the versions that are never pruned."""
    content = back_up(tmp_path)
    state = tmp_path / "backup" / "state"
    entries, lineage = read_lineage(state)
    newest = CheckpointStore(state / "checkpoints", keep=1).load_newest(lambda _: None)

    assert newest is not None
    assert newest.checkpoint.pin.num_entries == len(entries)
    assert (NUM_TASKS, NUM_TASKS, NUM_TASKS) == (content.tasks, content.head, content.current)
    assert {"instances/0": lineage.places["instances", 0]} == content.places
    kept = sorted(path.name for path in (state / "public" / "versions").iterdir())
    # What was served before comes along, to be rolled back to.
    assert {0, 7, 8} == lineage.pinned
    assert ["000000", "000007", "000008"] == kept
    for version in lineage.pinned:
        manifest = verify_artifact(version_folder(state / "public", version))
        assert lineage.versions[version].sha256 == manifest.weights_sha256
    assert learned.outcomes()[-1].sha256 == lineage.versions[8].sha256


def test_what_a_killed_backup_left_goes_with_the_next_one(
    learned: ForkedDaemon, tmp_path: Path
) -> None:
    """Under whatever name; not what another one is still writing, and nothing of others."""
    out = tmp_path / "backups"
    out.mkdir()
    for failpoint in ("backup.made", "backup.written"):
        killed = multiprocessing.get_context("fork").Process(
            target=back_up_until, args=(tmp_path, "backups/monday", failpoint)
        )
        killed.start()
        killed.join(300)
        assert -signal.SIGKILL == killed.exitcode
    (out / ".tmp-of-others-1").mkdir()
    (out / ".tmp-running-1" / "state").mkdir(parents=True)
    with (out / ".tmp-file-1").open("w"):
        pass
    before = len(list(out.iterdir()))
    held = os.open(out / ".tmp-running-1", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    back_up(tmp_path, "backups/tuesday")
    os.close(held)

    assert learned.outcomes()
    # The second has removed what the first left, as the third what the second did.
    assert (4, 4) == (before, len(list(out.iterdir())))
    back_up(tmp_path, "backups/monday")
    assert [".tmp-file-1", ".tmp-of-others-1", "monday", "tuesday"] == sorted(
        path.name for path in out.iterdir()
    )


def back_up_until(directory: Path, name: str, failpoint: str) -> None:
    """Back up, killed at a failpoint."""
    failpoints.arm(failpoint)
    back_up(directory, name)


def test_it_can_hold_every_version_that_is_there(tmp_path: Path) -> None:
    """Those that were pruned are in no backup."""
    bench = make_bench(tmp_path, **{**SECTIONS, "publication": {"keep_versions": 2}})
    bench.append(feature_records(40))
    assert ExitCode.OK == ForkedDaemon(bench.settings, tmp_path).run_until_tasks(4)
    back_up(tmp_path, all_versions=True)
    kept = (tmp_path / "backup" / "state" / "public" / "versions").iterdir()

    assert ["000000", "000003", "000004"] == sorted(path.name for path in kept)


def test_what_else_lies_in_the_state_directory_is_copied_but_no_socket(
    learned: ForkedDaemon, tmp_path: Path
) -> None:
    """Payloads of tasks that were set aside, say; not the lock, and nothing half written."""
    state = tmp_path / "state"
    (state / "aside" / "7").mkdir(parents=True)
    (state / "aside" / "7" / "payloads").write_bytes(b"1234")
    (state / ".tmp-half").write_bytes(b"12")
    with socket.socket(socket.AF_UNIX) as command:
        command.bind(str(state / "socket"))
        content = back_up(tmp_path)

    assert learned.outcomes()
    assert "state/aside/7/payloads" in content.files
    assert not any("lock" in name or "socket" in name or ".tmp-" in name for name in content.files)


def test_a_state_without_a_checkpoint_is_backed_up_whole(
    learned: ForkedDaemon, tmp_path: Path
) -> None:
    """A daemon in its first second has none."""
    shutil.rmtree(tmp_path / "state" / "checkpoints")
    back_up(tmp_path)

    before = (tmp_path / "state" / "lineage.log").read_bytes()
    assert learned.outcomes()
    assert before == (tmp_path / "backup" / "state" / "lineage.log").read_bytes()


def test_the_stream_log_comes_along_when_asked_for(learned: ForkedDaemon, tmp_path: Path) -> None:
    """Every record and dead letter, in one file that opens."""
    config = StreamLogConfig(path=str(tmp_path / "stream.db"))
    content = back_up(tmp_path, stream_log=config)

    assert learned.outcomes()
    assert "stream.db" in content.files
    with sqlite3.connect(tmp_path / "backup" / "stream.db") as copy:
        assert (10 * NUM_TASKS + 5,) == copy.execute("SELECT count(*) FROM records").fetchone()
        assert (1,) == copy.execute("SELECT count(*) FROM dead_letters").fetchone()
    copy.close()


def test_records_that_retention_took_meanwhile_are_told(
    learned: ForkedDaemon, tmp_path: Path
) -> None:
    """Such a copy could not be gone on with."""
    config = StreamLogConfig(path=str(tmp_path / "stream.db"))
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("UPDATE log SET deleted_below = 1000")
    connection.close()

    assert learned.outcomes()
    with pytest.raises(UnavailableError, match="were deleted while it was copied"):
        copy_records(config, tmp_path / "copy.db", read_lineage(tmp_path / "state")[1])
    with pytest.raises(UnavailableError, match=r"none\.db: is no file"):
        back_up(tmp_path, stream_log=StreamLogConfig(path=str(tmp_path / "none.db")))
    assert not (tmp_path / "backup").exists()


def damage_version(state: Path) -> None:
    """Flip a bit of the head's weights."""
    path = version_folder(state / "public", NUM_TASKS) / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")


def damage_log(state: Path) -> None:
    """Flip a bit in the middle of the log."""
    data = bytearray((state / "lineage.log").read_bytes())
    data[len(data) // 2] ^= 1
    (state / "lineage.log").write_bytes(data)


def damage_checkpoint(state: Path) -> None:
    """Cut the only checkpoint short."""
    (path,) = (state / "checkpoints").glob("*/checkpoint.json")
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [damage_version, damage_log, damage_checkpoint])
def test_what_cannot_be_verified_is_no_backup(
    learned: ForkedDaemon, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Exit 74 with the file's name; nothing appears, and nothing is left lying about."""
    damage(tmp_path / "state")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StateError):
        back_up(tmp_path)

    assert learned.log_path.exists()
    assert before == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", ["backup", "nowhere/backup"])
def test_a_place_that_will_not_do_is_refused_before_any_work(
    learned: ForkedDaemon, tmp_path: Path, name: str
) -> None:
    """A backup is never written over, and no folder is made on the way."""
    (tmp_path / "backup").mkdir()

    assert learned.outcomes()
    with pytest.raises(UsageError, match=r"exists already|is no folder"):
        back_up(tmp_path, name)


def change_a_byte(backup: Path) -> None:
    """Flip a bit."""
    path = backup / "state" / "lineage.log"
    path.write_bytes(path.read_bytes()[:-2] + b"\x55\n")


def remove_a_file(backup: Path) -> None:
    """As a copy that was cut short does."""
    next((backup / "state" / "public").rglob("manifest.json")).unlink()


def add_a_file(backup: Path) -> None:
    """As a copy over an older backup does."""
    (backup / "state" / "checkpoints" / "00000099").mkdir()
    (backup / "state" / "checkpoints" / "00000099" / "checkpoint.json").write_bytes(b"{}")


@pytest.mark.parametrize("change", [change_a_byte, remove_a_file, add_a_file])
def test_a_backup_that_has_changed_is_found_out(
    learned: ForkedDaemon, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Every file of it, named."""
    back_up(tmp_path)
    change(tmp_path / "backup")

    assert learned.outcomes()
    with pytest.raises(StateError, match="is not what was backed up"):
        read_backup(tmp_path / "backup")


def test_the_verb_says_what_it_did(
    learned: ForkedDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people and for programs; without a lineage it says how to begin."""
    config = write_settings(tmp_path, base=tmp_path / "base")
    teacherd = CommandLine(capsys)
    for_programs: Answer = teacherd("backup", tmp_path / "a", "--config", config, "--json")
    for_people = teacherd("backup", tmp_path / "b", "--config", config)
    again = teacherd("backup", tmp_path / "b", "--config", config)
    (tmp_path / "state" / "lineage.log").unlink()
    none = teacherd("backup", tmp_path / "c", "--config", config)

    assert learned.log_path.exists()
    assert (NUM_TASKS, NUM_TASKS) == (for_programs.json["tasks"], for_programs.json["head"])
    assert f"backed up into {tmp_path / 'b'}" == for_people.out.splitlines()[0]
    assert (2, "") == (again.code, again.out)
    assert "exists already" in again.err
    assert (2, True) == (none.code, "holds no lineage yet" in none.err)
