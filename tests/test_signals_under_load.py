"""Signals while records pour in and the learner trains: nothing lost, nothing twice, in time.

What the stream log gave is accounted for from the lineage log alone: each offset below the place
has one fate, and each from there on is still to be read.
"""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from accounting import account
from assemblies import CLASSES, make_bench
from daemon_process import DaemonProcess
from forked_daemon import ForkedDaemon
from pouring import Pouring

from teacherd.consumers.record import Partition
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.entries import Entry, Plan
from teacherd.daemon.errors import ExitCode
from teacherd.daemon.lineage_log import read_lineage_log

PARTITION = Partition("instances", 0)
SHUTDOWN_SECONDS = 120.0
"""Far more than the end takes, also where each fsync takes a second."""
TASK_INSTANCES = 200
NUM_ROUNDS = 4

Make = Callable[..., DaemonProcess]


def settings(directory: Path, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return those of a daemon that is behind from the start."""
    bench = make_bench(directory)
    return {
        **bench.settings,
        "process": {
            "state_directory": str(directory / "state"),
            "num_threads": 1,
            "shutdown_seconds": SHUTDOWN_SECONDS,
        },
        "tasks": {"instances": TASK_INSTANCES, "max_records": 5 * TASK_INSTANCES},
        "learning": learning(3),
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
        **sections,
    }


def learning(epochs: int) -> dict[str, Any]:
    """Return settings of learning in which one value follows from another."""
    return {
        "epochs": epochs,
        "optimizer": {"learning_rate": epochs / 1000},
        "consolidation": {"freezing_epochs": 1, "interval_epochs": 1},
    }


def check_accounts(directory: Path, entries: list[Entry], num_appended: int) -> None:
    """Hold every record that was appended against the lineage log."""
    accounts = account(
        entries,
        records={PARTITION: range(1, num_appended + 1)},
        letters=[],
        begins={PARTITION: 1},
    )
    place = accounts.places[PARTITION]
    log = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
    log.seek({PARTITION: place})
    waiting = []
    while (batch := log.poll(10_000, 0.0)) is not None:
        waiting += batch.offsets
    log.close()

    assert ([], []) == (accounts.lost, accounts.twice)
    assert place - 1 == accounts.fates.total()
    # A task that was planned is learned by the next start.
    assert accounts.fates["trained"] >= place - 1 - TASK_INSTANCES
    assert set(accounts.fates) <= {"trained", "unfinished"}
    assert list(range(place, num_appended + 1)) == waiting


@pytest.fixture
def make_process() -> Iterator[Make]:
    """Give a maker of daemons as processes of their own; leave none behind."""
    made: list[DaemonProcess] = []

    def make(directory: Path, given: dict[str, dict[str, Any]]) -> DaemonProcess:
        made.append(DaemonProcess(directory, given))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.slow
def test_each_reload_is_taken_whole_or_refused_while_records_pour_in(
    tmp_path: Path, make_process: Make
) -> None:
    """Bursts of good and bad files: no plan mixes two of them, no record is lost, and it ends."""
    base = settings(tmp_path)
    daemon = make_process(tmp_path, base)

    def write(text: str) -> None:
        # By rename, as an operator's tool should: half a file may be a valid one, too.
        temporary = tmp_path / "config.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(daemon.config_path)
        daemon.process.send_signal(signal.SIGHUP)

    def good(epochs: int) -> str:
        return yaml.safe_dump({**base, "learning": learning(epochs)})

    bad = [
        "learning: [",
        yaml.safe_dump({**base, "learning": {"epochs": 5, "epoch": 6}}),
        yaml.safe_dump({**base, "learning": {**learning(7), "batch_size": "many"}}),
        yaml.safe_dump({**base, "learning": learning(8), "tasks": {"instances": 77}}),
    ]
    daemon.start()
    with Pouring(tmp_path / "stream.db") as pouring:
        daemon.wait_for_tasks(2)
        for number, wrong in enumerate(bad):
            for last, name in ((good(2 + number % 3), "reloaded"), (wrong, "reload_refused")):
                before = len(daemon.events(name))
                for text in (wrong, good(4), last):
                    write(text)
                    time.sleep(0.02 * number)
                daemon.wait_until(lambda name=name, n=before: len(daemon.events(name)) > n)
        write(good(9))
        daemon.wait_until(
            lambda: any(
                isinstance(each, Plan) and each.epochs == 9 for each in read_entries(daemon)
            )
        )
        code = daemon.stop()
    plans = [each for each in read_entries(daemon) if isinstance(each, Plan)]
    pairs = {(each.epochs, each.learning_rate) for each in plans}

    assert ExitCode.OK == code
    assert [] == daemon.events("thread_failed") + daemon.events("stopped_at_deadline")
    assert {(epochs, epochs / 1000) for epochs, _ in pairs} == pairs
    assert {9, 3} <= {epochs for epochs, _ in pairs} <= {2, 3, 4, 9}
    check_accounts(tmp_path, read_entries(daemon), pouring.num_appended)


@pytest.mark.slow
def test_it_ends_in_time_at_any_moment_while_records_pour_in(tmp_path: Path) -> None:
    """SIGTERM again and again, never with a thread cut off; each start goes on behind the last."""
    daemon = ForkedDaemon(settings(tmp_path), tmp_path)
    try:
        with Pouring(tmp_path / "stream.db") as pouring:
            for number in range(1, NUM_ROUNDS + 1):
                daemon.start()
                daemon.wait_until_started()
                daemon.wait_until(lambda count=3 * number: len(daemon.outcomes()) >= count)
                time.sleep(0.07 * number)

                assert ExitCode.OK == daemon.terminate()
                assert pouring.num_appended > daemon.plans()[-1].ranges[0].end
        check_accounts(tmp_path, daemon.entries(), pouring.num_appended)
    finally:
        daemon.close()

    assert "stopped_at_deadline" not in daemon.log_path.read_text()


@pytest.mark.slow
def test_what_was_answered_before_the_end_is_in_the_stream_once(tmp_path: Path) -> None:
    """Clients post as fast as they can while it ends: an answer of 200 is kept, once."""
    endpoints = {"port": 0, "accept_instances": True}
    daemon = ForkedDaemon(settings(tmp_path, endpoints=endpoints), tmp_path)
    answered: list[str] = []
    is_over = threading.Event()

    def post(url: str, client: int) -> None:
        with httpx.Client(timeout=300) as session:
            for number in itertools.count():
                if is_over.is_set():
                    return
                identity = f"{client}-{number}"
                instance = {"features": [1, 2, 3, number], "label": CLASSES[0], "id": identity}
                with suppress(httpx.HTTPError):
                    answer = session.post(url, json={"instances": [instance]})
                    if answer.status_code == 200:
                        answered.append(identity)

    try:
        daemon.start()
        daemon.wait_until_started()
        url = f"http://127.0.0.1:{daemon.port}/v1/instances"
        threads = [threading.Thread(target=post, args=(url, each)) for each in range(6)]
        for thread in threads:
            thread.start()
        daemon.wait_until(lambda: len(daemon.outcomes()) >= 2)
        code = daemon.terminate()
    finally:
        is_over.set()
        daemon.close()
    for thread in threads:
        thread.join()
    log = StreamLog(StreamLogConfig(path=str(tmp_path / "stream.db")))
    ids = []
    while (batch := log.poll(10_000, 0.0)) is not None:
        ids += [dict(record.headers)["id"].decode() for record in batch]
    log.close()

    assert ExitCode.OK == code
    assert len(answered) >= 2 * TASK_INSTANCES
    assert set(answered) <= set(ids)
    assert len(set(ids)) == len(ids)
    check_accounts(tmp_path, daemon.entries(), len(ids))


HANGING_DECODER = """
import time
from pathlib import Path

import numpy as np


def decode(record):
    if Path("hang").exists():
        Path("hangs").touch()
        time.sleep(3600)
    return np.zeros(4, dtype=np.float32), 0
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shutdown_seconds", "num_signals"),
    [(2.0, 1), (3600.0, 2)],
    ids=["the deadline passes", "a second signal comes"],
)
def test_a_thread_that_hangs_is_abandoned_and_its_records_are_read_again(
    tmp_path: Path, make_process: Make, shutdown_seconds: float, num_signals: int
) -> None:
    """By the deadline, or at a second signal long before it; exit 0 either way, nothing lost."""
    (tmp_path / "hanging_decoder.py").write_text(HANGING_DECODER, encoding="utf-8")
    given = settings(tmp_path, decoding={"decoder": "hanging_decoder:decode", "num_threads": 1})
    given["process"]["shutdown_seconds"] = shutdown_seconds
    daemon = make_process(tmp_path, given)
    daemon.start()
    with Pouring(tmp_path / "stream.db") as pouring:
        daemon.wait_for_tasks(2)
        (tmp_path / "hang").touch()
        # The learner goes on with what is buffered, then waits for an intake that hangs.
        daemon.wait_until((tmp_path / "hangs").exists)
        for _ in range(num_signals):
            daemon.process.send_signal(signal.SIGTERM)
            # Two of the same signal at once would be one to the system.
            daemon.wait_until(lambda: bool(daemon.events("stopping")))
        code = daemon.wait()
        (tmp_path / "hang").unlink()
        abandoned = daemon.events("stopped_at_deadline")
        closed = sum(isinstance(each, Plan) for each in read_entries(daemon))
        daemon.start()
        daemon.wait_for_tasks(closed + 2)

        assert ExitCode.OK == daemon.stop()

    assert ExitCode.OK == code
    assert ["intake"] == [name for each in abandoned for name in each["threads"][:1]]
    check_accounts(tmp_path, read_entries(daemon), pouring.num_appended)


def read_entries(daemon: DaemonProcess) -> list[Entry]:
    """Return the lineage log of a daemon's state directory."""
    return [each.entry for each in read_lineage_log(daemon.state / "lineage.log")]
