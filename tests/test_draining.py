"""`teacherd drain`: all that is in the stream is learned, then the daemon ends by itself."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounting import account
from assemblies import Bench, bad_record, feature_records, make_bench
from daemon_process import DaemonProcess
from forked_daemon import ForkedDaemon

from teacherd.consumers.record import OffsetRange, Partition
from teacherd.consumers.source import Lag
from teacherd.daemon.commands import Command
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.control_socket import ask_daemon
from teacherd.daemon.deciding_by_hand import carry_out
from teacherd.daemon.draining import Draining
from teacherd.daemon.entries import Skip
from teacherd.daemon.errors import ExitCode, UsageError

PARTITION = Partition("instances", 0)


def make(directory: Path) -> Bench:
    """Make a bench whose tasks wait for ten instances, however long that takes."""
    return make_bench(
        directory,
        tasks={"instances": 10, "min_instances": 10, "max_age_seconds": 3600},
        endpoints={"port": 0},
        logging={"format": "json"},
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give a daemon that is not started yet; leave none behind."""
    daemon = ForkedDaemon(make(tmp_path).settings, tmp_path)
    yield daemon
    daemon.close()


def test_what_would_wait_for_more_is_learned_too(daemon: ForkedDaemon, tmp_path: Path) -> None:
    """25 records in tasks of ten: three tasks, each record once, exit 0 without a signal."""
    make(tmp_path).append([*feature_records(25), bad_record()])
    daemon.start()
    daemon.wait_until_started()
    answer = ask_daemon(tmp_path / "state", Command("drain", None))

    assert {"process": daemon.pid} == answer
    assert ExitCode.OK == daemon.wait()
    assert ["count", "count", "drain"] == [plan.cause for plan in daemon.plans()]
    accounts = account(
        daemon.entries(),
        records={PARTITION: range(1, 27)},
        letters=[(PARTITION, 26)],
        begins={PARTITION: 1},
    )
    assert ([], []) == (accounts.lost, accounts.twice)
    assert {"trained": 25, "rejected": 1} == accounts.fates
    assert '"event": "drained"' in daemon.log_path.read_text()


def test_an_empty_stream_is_drained_at_once(daemon: ForkedDaemon, tmp_path: Path) -> None:
    """There is nothing to plan, and the next start learns as ever."""
    daemon.start()
    daemon.wait_until_started()
    ask_daemon(tmp_path / "state", Command("drain", None))

    assert ExitCode.OK == daemon.wait()
    assert [] == daemon.plans()

    make(tmp_path).append(feature_records(10))

    assert ExitCode.OK == daemon.run_until_tasks(1)


def test_what_comes_after_the_end_is_for_the_next_start(tmp_path: Path) -> None:
    """A producer that goes on cannot keep a daemon from ending."""
    bench = make(tmp_path)
    bench.append(feature_records(3))
    assembly = bench.assemble()
    draining: Draining = assembly._draining
    draining.ask()
    while not draining.is_at_end:
        assembly.intake.tick()
    bench.append(feature_records(4, seed=1))
    for _ in range(3):
        assembly.intake.tick()
    while not bench.stop.is_set():
        assembly.learning.tick()
    assembly.close()

    assert [3] == [plan.num_instances for plan in bench.plans()]
    assert {PARTITION: Lag(4, pytest.approx(0, abs=1e15))} == assembly.intake._source.lag()


@pytest.mark.parametrize("num_records", [5, 2], ids=["with records behind", "at the end"])
def test_what_is_lost_just_then_is_noted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_records: int
) -> None:
    """While the learning thread waits, intake passes over a gap and comes to the end."""
    bench = make(tmp_path)
    bench.append(feature_records(num_records))
    assembly = bench.assemble()
    buffer, source = assembly._buffer, assembly.intake._source
    assert buffer is not None

    def wait_for_cut(_: float) -> None:
        buffer.skip(OffsetRange(PARTITION, 1, 3), "deleted")
        source.seek({PARTITION: 3})
        assembly._draining.ask()
        while not assembly._draining.is_at_end:
            assembly.intake.tick()

    monkeypatch.setattr(buffer, "wait_for_cut", wait_for_cut)
    assembly.learning.tick()
    monkeypatch.undo()
    while not bench.stop.is_set():
        assembly.learning.tick()
    assembly.close()

    [skip] = [each for each in bench.entries() if isinstance(each, Skip)]
    assert (1, 3) == (skip.start, skip.end)
    assert [num_records - 2][: num_records - 2] == [each.num_instances for each in bench.plans()]


def test_the_verb_waits_for_the_end(tmp_path: Path) -> None:
    """A script can go on behind it; who asks without a daemon is told."""
    bench = make(tmp_path)
    bench.append(feature_records(15))
    daemon = DaemonProcess(tmp_path, bench.settings)
    command = [sys.executable, "-m", "teacherd.daemon", "drain", "--json", "--config"]
    try:
        daemon.start()
        done = subprocess.run(
            [*command, str(daemon.config_path)], check=True, capture_output=True, cwd=tmp_path
        )

        assert daemon.process.pid == json.loads(done.stdout)["process"]
        assert 0 == daemon.wait()
    finally:
        daemon.close()

    with pytest.raises(UsageError, match=r"no daemon is running in .*: start it"):
        carry_out(parse(Config, bench.settings, origin="test"), Command("drain", None))
