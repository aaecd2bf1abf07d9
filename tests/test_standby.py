"""A standby: waits for the state directory's holder to die, then goes on with its lineage."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assemblies import feature_records, make_bench
from base_models import untrained_base
from forked_daemon import ForkedDaemon

from teacherd.daemon.errors import ExitCode


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a daemon with records for two tasks."""
    ports = {"endpoints": {"port": 0}, "logging": {"format": "json"}}
    bench = make_bench(tmp_path, **ports)
    bench.append(feature_records(20))
    return bench.settings


@pytest.fixture
def active(settings: dict[str, Any], tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give a daemon that runs and has learned both tasks."""
    (tmp_path / "active").mkdir()
    daemon = ForkedDaemon(settings, tmp_path / "active")
    daemon.start()
    daemon.wait_until_started()
    daemon.wait_until(lambda: len(daemon.outcomes()) == 2)
    yield daemon
    daemon.close()


@pytest.fixture
def standby(
    settings: dict[str, Any], active: ForkedDaemon, tmp_path: Path
) -> Iterator[ForkedDaemon]:
    """Give a second daemon over the same state directory that waits."""
    (tmp_path / "standby").mkdir()
    daemon = ForkedDaemon(settings, tmp_path / "standby")
    daemon.start(is_standby=True)
    daemon.wait_until(lambda: bool(daemon.events("standby")))
    assert str(active.pid) == daemon.events("standby")[0]["holder"]
    yield daemon
    daemon.close()


def get(daemon: ForkedDaemon, path: str) -> bytes:
    """Return what an endpoint answers; anything but 200 raises."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=60) as answer:
        body: bytes = answer.read()
    return body


def test_it_takes_over_from_a_killed_daemon(
    active: ForkedDaemon, standby: ForkedDaemon, tmp_path: Path
) -> None:
    """It answers while it waits, and learns on from the other's last version."""
    assert {"state": "standby"} == json.loads(get(standby, "/readyz"))
    assert json.loads(get(standby, "/livez"))["live"]
    assert b"teacherd_build_info" in get(standby, "/metrics")
    assert str(active.pid) == json.loads(get(standby, "/status"))["standby"]["holder"]

    active.kill()
    standby.wait_until_started()
    make_bench(tmp_path).append(feature_records(10, seed=1))
    standby.wait_until(lambda: len(standby.outcomes()) == 3)

    assert {"state": "ready"} == json.loads(get(standby, "/readyz"))
    assert 1 == len(standby.events("took_over"))
    assert 3 == standby.outcomes()[-1].version
    assert ExitCode.OK == standby.terminate()


def test_it_can_be_stopped_while_it_waits(active: ForkedDaemon, standby: ForkedDaemon) -> None:
    """In order, and the other goes on."""
    standby.send(signal.SIGTERM)

    assert ExitCode.OK == standby.wait()
    assert [] == standby.events("started")
    assert {"state": "ready"} == json.loads(get(active, "/readyz"))


def test_without_it_a_second_daemon_ends_and_names_the_first(
    active: ForkedDaemon, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Exit 75: a supervisor may try again later."""
    second = ForkedDaemon(settings, tmp_path)
    second.start()

    assert ExitCode.TEMPORARY == second.wait()
    assert f"in use by process {active.pid}" in second.log_path.read_text()
    assert "`teacherd run --standby`" in second.log_path.read_text()


def test_a_standby_that_could_not_take_over_ends_at_once(
    active: ForkedDaemon, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Not in the night in which it is needed."""
    assert active.pid
    other = untrained_base(tmp_path, name="other", classes=("cat", "dog"))
    wrong = {**settings, "model": {"base": str(other), "classes": ["cat", "emu"]}}
    second = ForkedDaemon(wrong, tmp_path)
    second.start(is_standby=True)

    assert ExitCode.CONFIGURATION == second.wait()
    assert "model.classes" in second.log_path.read_text()


def test_where_nobody_holds_the_directory_it_just_starts(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """The first of two standbys is the active one."""
    daemon = ForkedDaemon(settings, tmp_path)
    try:
        daemon.start(is_standby=True)
        daemon.wait_until(lambda: len(daemon.outcomes()) == 2)

        assert [] == daemon.events("standby")
        assert ExitCode.OK == daemon.terminate()
    finally:
        daemon.close()
