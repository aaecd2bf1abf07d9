"""The daemon under more than it can learn: bounded memory, growing tasks, fewer epochs, no loss."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accounting import account
from assemblies import feature_records
from base_models import untrained_base
from daemon_process import DaemonProcess
from prometheus_client.parser import text_string_to_metric_families
from stream_writing import append_records

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import Plan
from teacherd.daemon.lineage_log import read_lineage_log

NUM_RECORDS = 10_000
NUM_WAITING = 4000
BUFFER_BYTES = 256 << 10
POLL_BYTES = 64 * 100
"""Of one poll, by which the buffer may be fuller than full."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Give a daemon for which half a minute's work waits already."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(untrained_base(tmp_path))},
        "process": {"num_threads": 1},
        "intake": {"poll_records": 64},
        "tasks": {
            "instances": 100,
            "max_instances": 1500,
            "max_age_seconds": 3600,
            "max_records": 100_000,
            "buffer_bytes": BUFFER_BYTES,
        },
        "learning": {"epochs": 20, "min_epochs": 1, "batch_size": 50},
        "gate": {"holdout_share": 0},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    append(tmp_path, NUM_WAITING)
    daemon = DaemonProcess(tmp_path, settings)
    yield daemon
    daemon.close()


def append(directory: Path, count: int) -> None:
    """Append records to the stream log."""
    append_records(directory / "stream.db", feature_records(count))


def metric(daemon: DaemonProcess, name: str) -> float:
    """Return a metric without labels."""
    text = daemon.get("/metrics")[1].decode()
    (value,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"teacherd_{name}"
    )
    return float(value)


def entries(daemon: DaemonProcess) -> list[Any]:
    """Return the lineage log's entries."""
    return [logged.entry for logged in read_lineage_log(daemon.state / "lineage.log")]


def test_an_overloaded_daemon_stays_within_its_bounds_and_loses_nothing(
    daemon: DaemonProcess,
) -> None:
    """Also when it is killed in the middle: what load decided stands in the plans.

    The buffer never takes more than it may, tasks grow to their largest and only then take fewer
    epochs, and every record is decided exactly once.
    """
    daemon.start()
    sizes, headroom, num_appended = [], [], NUM_WAITING
    is_killed = False
    deadline = time.monotonic() + 600
    while sum(daemon.status()["lineage"]["places"].values()) < NUM_RECORDS - 2000:
        assert time.monotonic() < deadline, daemon.log_text()[-3000:]
        if num_appended < NUM_RECORDS:
            append(daemon.directory, 500)
            num_appended += 500
        sizes.append(metric(daemon, "buffer_bytes"))
        headroom.append(metric(daemon, "learning_headroom_ratio"))
        if not is_killed and num_appended > NUM_RECORDS / 2:
            daemon.kill()
            daemon.start()
            is_killed = True
        time.sleep(0.05)
    daemon.stop()
    plans = [each for each in entries(daemon) if isinstance(each, Plan)]
    instances = [plan.num_instances for plan in plans]
    partition = Partition("instances", 0)
    accounts = account(
        entries(daemon),
        records={partition: range(1, num_appended + 1)},
        letters=[],
        begins={partition: 1},
    )

    assert BUFFER_BYTES / 2 < max(sizes) <= BUFFER_BYTES + POLL_BYTES
    assert min(headroom) < 1
    assert "load" in {plan.cause for plan in plans}
    assert 1000 <= max(instances) <= 1500
    assert min(plan.epochs for plan in plans) < 20
    assert all(plan.epochs == 20 for plan in plans if plan.num_instances < 1000)
    assert ([], []) == (accounts.lost, accounts.twice)
    assert accounts.places[partition] - 1 == sum(instances)
