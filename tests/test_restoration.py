"""A restore: the lineage goes on from the backup, nothing is skipped, loaders take what follows."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from assemblies import Bench, feature_records, make_bench
from command_line import CommandLine, write_settings
from forked_daemon import ForkedDaemon

from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.backup import make_backup
from teacherd.daemon.entries import Restore
from teacherd.daemon.errors import ExitCode, StateError, TemporaryError, UsageError
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.daemon.publication import PublicationConfig
from teacherd.daemon.restoration import restore_backup
from teacherd.daemon.state_directory import StateDirectory
from teacherd.daemon.state_lock import StateLock
from teacherd.models.artifact import version_folder
from teacherd.models.hot_teacher import HotTeacher

NOW = "2030-01-01T00:00:00.000+00:00"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give settings and records for two tasks."""
    bench = make_bench(tmp_path, endpoints={"port": 0}, logging={"format": "json"})
    bench.append(feature_records(20))
    return bench


@pytest.fixture
def daemon(bench: Bench, tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give a daemon."""
    daemon = ForkedDaemon(bench.settings, tmp_path)
    yield daemon
    daemon.close()


@pytest.fixture
def backup(daemon: ForkedDaemon, bench: Bench, tmp_path: Path) -> Path:
    """Give a backup of two tasks of a lineage that has learned four by now."""
    assert ExitCode.OK == daemon.run_until_tasks(2)
    make_backup(
        tmp_path / "state",
        tmp_path / "backup",
        stream_log=None,
        all_versions=False,
        now=NOW,
        on_progress=lambda _done, _total: None,
    )
    bench.append(feature_records(20, seed=1))
    assert ExitCode.OK == daemon.run_until_tasks(4)
    return tmp_path / "backup"


def with_the_verb(backup: Path, directory: Path) -> None:
    """Restore as documented."""
    restore_backup(backup, directory, directory.parent / "stream.db")


def with_plain_copying(backup: Path, directory: Path) -> None:
    """Restore as people do who have not read on."""
    shutil.copytree(backup / "state", directory)


Restoring = Callable[[Path, Path], None]


@pytest.mark.parametrize("restore", [with_the_verb, with_plain_copying])
def test_an_older_state_learns_again_what_came_since(
    daemon: ForkedDaemon, bench: Bench, backup: Path, tmp_path: Path, restore: Restoring
) -> None:
    """From the log's places, whatever the stream was told of since: the same records, once."""
    before, plans = daemon.outcomes(), daemon.plans()
    with HotTeacher(tmp_path / "state" / "public") as teacher:
        served = teacher.predict(torch.zeros(1, 4).numpy()).version
        shutil.move(tmp_path / "state", tmp_path / "state.before")
        restore(backup, tmp_path / "state")
        assert 2 == len(daemon.outcomes())
        assert ExitCode.OK == daemon.run_until_tasks(4)
        # The same number as before, but of the new epoch: only by that is it the newer one.
        teacher.refresh()  # if it has not looked by itself yet
        assert 4 == served == teacher.version
        assert teacher.manifest.epoch > 1
    lineage = read_lineage(tmp_path / "state")[1]

    assert bench.settings
    assert [each.sha256 for each in before] == [each.sha256 for each in daemon.outcomes()]
    assert [plan.ranges for plan in plans] == [plan.ranges for plan in daemon.plans()]
    assert '"event": "restored"' in daemon.log_path.read_text()
    assert not (tmp_path / "state" / "backup.json").exists()
    assert lineage.epoch > 1


def test_each_restore_raises_the_epoch_above_all_before(
    daemon: ForkedDaemon, backup: Path, tmp_path: Path
) -> None:
    """Two restores of the same backup lead to different versions of the same number."""
    epochs = []
    for now in ("2031-01-01T00:00:00+00:00", "2031-01-01T00:00:01+00:00"):
        with_plain_copying(backup, tmp_path / now)
        state = StateDirectory(
            tmp_path / now, PublicationConfig(), keep_checkpoints=3, now=lambda now=now: now
        )
        epochs.append(state.journal.lineage.epoch)
        state.close()
    state = StateDirectory(
        tmp_path / now,
        PublicationConfig(),
        keep_checkpoints=3,
        now=lambda: "2032-01-01T00:00:00+00:00",
    )
    again = state.journal.lineage.epoch
    state.close()

    assert daemon.outcomes()
    assert [1924992000, 1924992001] == epochs
    assert epochs[1] == again  # a start is no restore


def test_a_clock_that_stands_wrong_does_not_lower_the_epoch(backup: Path, tmp_path: Path) -> None:
    """It is above the last one in any case."""
    with_plain_copying(backup, tmp_path / "late")
    late = StateDirectory(
        tmp_path / "late",
        PublicationConfig(),
        keep_checkpoints=3,
        now=lambda: "2100-01-01T00:00:00Z",
    )
    first = late.journal.lineage.epoch
    late.close()
    (tmp_path / "late" / "backup.json").write_text("{}")
    early = StateDirectory(
        tmp_path / "late",
        PublicationConfig(),
        keep_checkpoints=3,
        now=lambda: "1990-01-01T00:00:00Z",
    )

    assert first + 1 == early.journal.lineage.epoch

    early.close()


def test_a_state_directory_in_use_or_not_empty_is_left_alone(backup: Path, tmp_path: Path) -> None:
    """Whatever is in it may be the only copy."""
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "state").rglob("*")}
    with pytest.raises(UsageError, match=r"move it away.*state\.before"):
        with_the_verb(backup, tmp_path / "state")

    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "state").rglob("*")}
    lock = tmp_path / "state" / "lock"
    assert before | {lock: 0} == after | {lock: 0}

    (tmp_path / "empty").mkdir()
    held = StateLock(tmp_path / "empty")
    with pytest.raises(TemporaryError, match="in use by process"):
        with_the_verb(backup, tmp_path / "empty")
    held.close()


def test_a_mount_point_can_be_restored_into(backup: Path, tmp_path: Path) -> None:
    """It cannot be renamed, and often has a folder of the file system's own."""
    (tmp_path / "mount" / "lost+found").mkdir(parents=True)
    inode = (tmp_path / "mount").stat().st_ino
    with_the_verb(backup, tmp_path / "mount")

    assert inode == (tmp_path / "mount").stat().st_ino
    assert 2 == read_lineage(tmp_path / "mount")[1].head


def test_a_damaged_backup_is_not_restored(backup: Path, tmp_path: Path) -> None:
    """Before anything is made."""
    manifest = version_folder(backup / "state" / "public", 2) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(StateError, match=r"000002/manifest\.json: is not what was backed up"):
        with_the_verb(backup, tmp_path / "new")

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("last", ["backup.json", "format.json", "checkpoints", "lineage.log"])
def test_half_a_restore_is_never_started_from(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """A daemon that began a new lineage in it would be worse than one that does not start."""

    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if name == f"restore.{last}":
            raise Killed

    monkeypatch.setattr("teacherd.daemon.restoration.failpoint", die)
    with pytest.raises(Killed):
        with_the_verb(backup, tmp_path / "new")
    bench = make_bench(tmp_path, endpoints={"port": 0})
    bench.settings["process"]["state_directory"] = str(tmp_path / "new")
    daemon = ForkedDaemon(bench.settings, tmp_path)
    daemon.start()

    assert ExitCode.STATE == daemon.wait()


def test_the_entry_is_in_the_log(daemon: ForkedDaemon, backup: Path, tmp_path: Path) -> None:
    """A replay follows it, and people find it."""
    shutil.rmtree(tmp_path / "state")
    with_the_verb(backup, tmp_path / "state")
    assert ExitCode.OK == daemon.run_until_tasks(2)
    entries = [logged.entry for logged in read_lineage(tmp_path / "state")[0]]

    assert 1 == sum(isinstance(entry, Restore) for entry in entries)


def test_the_verb_brings_records_back_only_where_there_are_none(
    backup: Path, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stream log that is there may hold more than the backup's."""
    teacherd = CommandLine(capsys)
    config = write_settings(tmp_path, base=tmp_path / "base")
    whole = tmp_path / "whole"
    assert 0 == teacherd("backup", whole, "--with-stream-log", "--config", config).code
    shutil.move(tmp_path / "state", tmp_path / "state.before")
    records = (tmp_path / "stream.db").read_bytes()
    beside = teacherd("restore", whole, "--config", config, "--json").json
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "stream.db").unlink()
    back = teacherd("restore", whole, "--config", config)
    refused = teacherd("restore", backup / "state", "--config", config)

    assert "left as it is" == beside["stream_log"]
    assert records
    assert f"restored into {tmp_path / 'state'}" == back.out.splitlines()[0]
    assert (2, True) == (refused.code, "is no backup" in refused.err)
    daemon = ForkedDaemon(bench.settings, tmp_path)
    bench.append(feature_records(10, seed=2))
    assert ExitCode.OK == daemon.run_until_tasks(5)


def test_a_stream_log_comes_back_on_a_machine_that_has_nothing_yet(
    daemon: ForkedDaemon, tmp_path: Path
) -> None:
    """Its folder is made, as the state directory is; beside another log's WAL it is not put."""
    assert ExitCode.OK == daemon.run_until_tasks(2)
    make_backup(
        tmp_path / "state",
        tmp_path / "whole",
        stream_log=StreamLogConfig(path=str(tmp_path / "stream.db")),
        all_versions=False,
        now=NOW,
        on_progress=lambda _done, _total: None,
    )
    stray = tmp_path / "stray" / "stream.db"
    stray.parent.mkdir()
    stray.with_name("stream.db-wal").write_bytes(b"newest records of another log")
    with pytest.raises(UsageError, match="is gone, but"):
        restore_backup(tmp_path / "whole", tmp_path / "first", stray)
    path = tmp_path / "new" / "machine" / "stream.db"
    _, is_put_back = restore_backup(tmp_path / "whole", tmp_path / "second", path)
    log = StreamLog(StreamLogConfig(path=str(path)))
    batch = log.poll(100, 0.0)
    log.close()

    assert is_put_back
    assert batch is not None
    assert 20 == len(batch)
