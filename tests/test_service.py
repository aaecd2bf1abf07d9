"""The process: threads that die end it with their code, and the end has a deadline."""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from assemblies import CLASSES, feature_records, make_bench
from base_models import untrained_base
from daemon_process import DaemonProcess
from forked_daemon import ForkedDaemon

from teacherd.consumers.decoding import DecodingConfig
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import keys_of, parse
from teacherd.daemon.errors import ExitCode, StateError
from teacherd.daemon.instances_endpoint import InstancesEndpoint
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.service import RELOADABLE, Service
from teacherd.daemon.service_manager import ServiceManager

MakeDaemon = Callable[..., ForkedDaemon]


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Give a maker of daemons over four features; end them all."""
    made = []

    def make(num_records: int, **sections: dict[str, Any]) -> ForkedDaemon:
        ports = {"endpoints": {"port": 0}, "logging": {"format": "json"}}
        bench = make_bench(tmp_path, **{**ports, **sections})
        if num_records:
            bench.append(feature_records(num_records))
        made.append(ForkedDaemon(bench.settings, tmp_path))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


def make_service(directory: Path) -> Service:
    """Return a service that is not run."""
    settings = {"model": {"base": str(untrained_base(directory))}}
    config = parse(Config, settings, origin="test")
    manager = ServiceManager(None, watchdog_seconds=None, monotonic=time.monotonic)
    return Service(config, reread=lambda: config, manager=manager)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """The first asks for an orderly end, the second does not wait for it."""
    service = make_service(tmp_path)
    hung = threading.Event()
    service._threads.start("learning", lambda: hung.wait(60) and None)
    service._stop.set()
    service._force.set()
    service._shutdown([])

    assert ["learning"] == service._threads.alive

    hung.set()


def test_where_no_command_can_come_in_no_thread_is_begun(tmp_path: Path) -> None:
    """What fails last at a start must not leave a learner behind, which nobody would stop."""
    config = parse(Config, make_bench(tmp_path, endpoints={"port": 0}).settings, origin="test")
    (tmp_path / "state" / "control.sock").mkdir(parents=True)
    manager = ServiceManager(None, watchdog_seconds=None, monotonic=time.monotonic)
    service = Service(config, reread=lambda: config, manager=manager)

    with pytest.raises(StateError, match=r"control\.sock: cannot be made"):
        service.run()
    assert [] == service._threads.alive


def test_an_append_that_hangs_is_cut_off_by_the_deadline(tmp_path: Path) -> None:
    """A broker that is away for a minute holds up neither the end nor the exit code."""
    service = make_service(tmp_path)
    let_go = threading.Event()

    class HangingAppender:
        def append(self, _: object) -> None:
            let_go.wait(60)

        def close(self) -> None:
            """Nothing is open."""

    endpoint = InstancesEndpoint(
        open_appender=HangingAppender,
        token=None,
        max_request_bytes=1000,
        limits=DecodingConfig(),
        metrics=Metrics(),
    )
    asking = endpoint._thread.submit(endpoint._append, b"1", "image/png", {"label": "cat"})
    service._deadline = time.monotonic() + 0.2
    service._close_posting(endpoint)

    assert service._is_posting
    assert not asking.done()

    let_go.set()


@pytest.mark.slow
def test_a_step_that_outlasts_the_deadline_does_not_spoil_the_exit_code(tmp_path: Path) -> None:
    """0 and no abort, with torch in the middle of a step: the next start makes up for it."""
    bench = make_bench(
        tmp_path,
        process={"state_directory": str(tmp_path / "state"), "shutdown_seconds": 0.001},
        tasks={"instances": 400, "min_instances": 1},
        learning={"batch_size": 400, "epochs": 1000},
        endpoints={"port": 0},
        logging={"format": "json"},
        model={"base": str(untrained_base(tmp_path, name="wide", width=2048, depth=3))},
    )
    bench.append(feature_records(400))
    daemon = DaemonProcess(tmp_path, bench.settings)
    try:
        daemon.start()
        daemon.wait_until(lambda: daemon.status().get("task", {}).get("steps_done", 0) > 0)
        code = daemon.stop()
    finally:
        daemon.close()

    assert ExitCode.OK == code


def test_a_stream_log_that_breaks_while_it_runs_is_told(
    make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """Exit 69 and the file's name: restore it, nothing of the lineage is lost."""
    daemon = make_daemon(10)
    assert ExitCode.OK == daemon.run_until_tasks(1)
    with sqlite3.connect(tmp_path / "stream.db") as connection:
        connection.execute("UPDATE log SET deleted_below = 500")
    connection.close()
    daemon.start()

    assert ExitCode.UNAVAILABLE == daemon.wait()
    assert "are gone" in daemon.log_path.read_text()


def test_it_stops_by_either_signal(make_daemon: MakeDaemon) -> None:
    """SIGINT is for people what SIGTERM is for supervisors."""
    daemon = make_daemon(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        daemon.start()
        daemon.wait_until_started()
        daemon.send(number)

        assert ExitCode.OK == daemon.wait()


def test_what_may_be_reloaded_are_keys_of_the_configuration() -> None:
    """A key that is renamed is not silently refused from then on."""
    keys = keys_of(Config)

    assert [] == [key for key in RELOADABLE if not any(each.startswith(key) for each in keys)]


def test_posted_instances_are_learned(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """From a client's request to a version, by whom the token's file lets in."""
    token_file = tmp_path / "token"
    token_file.write_text("correct-horse\nanything\n", encoding="utf-8")
    endpoints = {"port": 0, "accept_instances": True, "token_file": str(token_file)}
    daemon = make_daemon(0, endpoints=endpoints)
    daemon.start()
    daemon.wait_until_started()
    instances = [{"features": [1, 2, 3, place], "label": CLASSES[0]} for place in range(10)]
    url = f"http://127.0.0.1:{daemon.port}/v1/instances"
    stranger = httpx.post(url, json={"instances": instances}, timeout=300)
    answer = httpx.post(
        url,
        json={"instances": instances},
        headers={"Authorization": "Bearer correct-horse"},
        timeout=300,
    )
    daemon.wait_until(lambda: len(daemon.outcomes()) == 1)

    assert 401 == stranger.status_code
    assert (200, {"appended": 10}) == (answer.status_code, answer.json())
    assert [10] == [plan.num_instances for plan in daemon.plans()]
    assert 0 == daemon.terminate()
