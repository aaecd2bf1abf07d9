"""A damaged file is named and done without, or the start is refused: nothing is taken on trust."""

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from assemblies import Bench, feature_records, make_bench
from disk_faults import Damage, damages

from teacherd.daemon.errors import ExitCode, StateError
from teacherd.daemon.state_directory import make_state_directory

NUM_TASKS = 4
TRIED_AT_MOST = int(os.environ.get("TEACHERD_TEST_DISK_FAULTS", "40"))
"""Of about 150 damages: how many, by chance, one run of the tests tries."""


def learn(bench: Bench, num_tasks: int, *, into_the_next: bool = False) -> None:
    """Run the daemon's loops until so many tasks are closed, or a bit further."""
    assembly = bench.assemble()
    try:
        while len(bench.outcomes()) < num_tasks or (
            into_the_next and assembly.learning._core.num_steps_done < 2
        ):
            assembly.intake.tick()
            assembly.learning.tick()
    finally:
        assembly.close()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Give a daemon that was killed inside its third task, with a checkpoint there."""
    bench = make_bench(tmp_path_factory.mktemp("interrupted"), checkpoints={"interval_steps": 1})
    bench.append(feature_records(10 * NUM_TASKS))
    learn(bench, 2, into_the_next=True)
    return bench


@pytest.fixture(scope="module")
def expected(interrupted: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[str | None]:
    """Give the weights of the versions of a run that nothing happened to."""
    bench = interrupted.copy_to(tmp_path_factory.mktemp("undisturbed") / "copy")
    learn(bench, NUM_TASKS)
    return [outcome.sha256 for outcome in bench.outcomes()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose places among the damages, whose number is known only once there are files."""
    if "chosen" in metafunc.fixturenames:
        metafunc.parametrize("chosen", range(TRIED_AT_MOST))


@pytest.fixture
def damage(interrupted: Bench, chosen: int) -> Damage:
    """Give one of the damages, each at most once."""
    every = list(damages(interrupted.directory / "state"))
    random.Random(7).shuffle(every)
    if chosen >= len(every):
        pytest.skip(f"there are only {len(every)} damages")
    return every[chosen]


def test_a_damaged_file_is_never_taken_on_trust(
    interrupted: Bench, expected: list[str | None], damage: Damage, tmp_path: Path
) -> None:
    """The same weights come out, or exit 74 names the file and has changed nothing."""
    bench = interrupted.copy_to(tmp_path / "copy")
    state = bench.directory / "state"
    damage.apply(state)
    log_before = (state / "lineage.log").read_bytes()
    with structlog.testing.capture_logs() as events:
        refusal = refused_to_learn(bench)
    if refusal is not None:
        assert ExitCode.STATE == refusal.exit_code
        assert is_named(damage, str(refusal))
        assert log_before == (state / "lineage.log").read_bytes()
        return

    assert expected == [outcome.sha256 for outcome in bench.outcomes()]
    if damage.path.startswith(f"checkpoints/{newest_checkpoint(interrupted)}"):
        assert [True] == [
            is_named(damage, event["path"])
            for event in events
            if event["event"] == "checkpoint_unreadable"
        ]


def refused_to_learn(bench: Bench) -> StateError | None:
    """Run to the end of the data; return why not, if not."""
    try:
        learn(bench, NUM_TASKS)
    except StateError as error:
        return error
    return None


def is_named(damage: Damage, message: str) -> bool:
    """Tell whether a message names the file or its folder."""
    parts = Path(damage.path).parts
    return str(Path(*parts[:-1]) if len(parts) > 1 else parts[0]) in message


def newest_checkpoint(bench: Bench) -> str:
    """Return the name of the newest one."""
    return max(path.name for path in (bench.directory / "state" / "checkpoints").iterdir())


@pytest.fixture
def read_only_disk(tmp_path: Path, interrupted: Bench) -> Iterator[Bench]:
    """Give the interrupted daemon on a file system that has become read-only."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["/usr/bin/mount", "-t", "tmpfs", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root; run the tests as root to try a read-only disk")
    try:
        bench = interrupted.copy_to(mount / "copy")
        subprocess.run(["/usr/bin/mount", "-o", "remount,ro", str(mount)], check=True)
        yield bench
    finally:
        subprocess.run(["/usr/bin/umount", "-l", str(mount)], check=True)


def test_a_disk_that_has_become_read_only_is_named(read_only_disk: Bench) -> None:
    """74, not 78: the configuration was good, a supervisor may try again."""
    with pytest.raises(StateError, match="state: cannot be written: Read-only file system"):
        read_only_disk.assemble()


@pytest.mark.parametrize("holds_lineage", [True, False])
def test_a_directory_that_cannot_be_written_is_a_mistake_or_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds_lineage: bool
) -> None:
    """78 for a place where nothing can be made, 74 for one that holds a lineage already."""
    if holds_lineage:
        (tmp_path / "lineage.log").write_text("")

    def refuse(_path: Path, _data: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "write_bytes", refuse)
        with pytest.raises(Exception, match="cannot be written") as caught:
            make_state_directory(tmp_path)

    expected = ExitCode.STATE if holds_lineage else ExitCode.CONFIGURATION
    assert expected == caught.value.exit_code  # type: ignore[attr-defined]
