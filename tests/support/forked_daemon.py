"""The daemon's service in a forked process: as killable as the real one, started in milliseconds.

The fork server forks a child for each run, so that a test can afford to kill the daemon at every
single point at which a crash could matter.
"""

import multiprocessing.process
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fork_server import CONTEXT
from log_events import log_events

from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import NoDaemonError, ask_daemon
from teacherd.daemon.entries import Entry, Outcome, Plan, Skip
from teacherd.daemon.errors import TeacherdError, TemporaryError
from teacherd.daemon.lineage_log import read_lineage_log

LIMIT_SECONDS = 300.0
"""For whatever is waited for: on a busy disk an fsync takes seconds, and a task has many."""
_POLL_SECONDS = 0.02


Preparation = Callable[[], object]
"""Called in the child before the service is made; must survive pickling."""


def _serve(
    settings: dict[str, Any],
    failpoint: str | None,
    log_path: str,
    preparations: Sequence[Preparation],
    *,
    is_standby: bool,
) -> None:
    from teacherd.daemon.config import Config  # noqa: PLC0415 (in the child, beside the service)
    from teacherd.daemon.config_parsing import parse  # noqa: PLC0415
    from teacherd.daemon.durable import failpoints  # noqa: PLC0415
    from teacherd.daemon.logs import configure_logs  # noqa: PLC0415
    from teacherd.daemon.service import Service  # noqa: PLC0415
    from teacherd.daemon.service_manager import ServiceManager  # noqa: PLC0415

    failpoints.arm(failpoint)
    for prepare in preparations:
        prepare()
    with Path(log_path).open("a", encoding="utf-8") as log:
        config = parse(Config, settings, origin="test")
        configure_logs(config.logging, stream=log)
        try:
            manager = ServiceManager(None, watchdog_seconds=None, monotonic=time.monotonic)
            service = Service(config, reread=lambda: config, manager=manager, is_standby=is_standby)
            code = int(service.run())
        except TeacherdError as error:
            log.write(f"{error}\n")
            code = int(error.exit_code)
    os._exit(code)


class ForkedDaemon:
    """Runs of the service over one state directory."""

    def __init__(self, settings: dict[str, Any], directory: Path) -> None:
        self._settings = settings
        self.log_path = directory / "daemon.log"
        self.log_path.touch()
        self.lineage_log = Path(settings["process"]["state_directory"]) / "lineage.log"
        self._num_starts_before = 0
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(
        self,
        failpoint: str | None = None,
        *preparations: Preparation,
        is_standby: bool = False,
    ) -> None:
        """Start a run, which a failpoint may kill."""
        self._num_starts_before = self._num_starts()
        arguments = (self._settings, failpoint, str(self.log_path), preparations)
        self._process = CONTEXT.Process(
            target=_serve, args=arguments, kwargs={"is_standby": is_standby}
        )
        self._process.start()

    def wait(self, seconds: float = LIMIT_SECONDS) -> int:
        """Wait for the end of the run and return its exit code, negative for a signal."""
        assert self._process is not None, "not started"
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"still running:\n{self.log_path.read_text()[-3000:]}"
        return code

    @property
    def is_alive(self) -> bool:
        """Whether the run goes on."""
        return self._process is not None and self._process.is_alive()

    def wait_until(self, condition: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
        """Wait for a condition while the run lives."""
        assert self._process is not None, "not started"
        deadline = time.monotonic() + seconds
        while True:
            is_alive = self._process.is_alive()
            if condition():
                return
            log = self.log_path.read_text()[-3000:]
            assert is_alive, f"ended with {self._process.exitcode}:\n{log}"
            assert time.monotonic() < deadline, f"not within {seconds} s:\n{log}"
            time.sleep(_POLL_SECONDS)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log events of all runs, all or those of one name."""
        return log_events(self.log_path.read_text(), name)

    @property
    def port(self) -> int:
        """Where the run that was started last answers."""
        port: int = self.events("listening")[-1]["port"]
        return port

    @property
    def pid(self) -> int:
        """Number of the running process."""
        assert self._process is not None, "not started"
        return self._process.pid or 0

    def die_of(self, command: Command, failpoint: str) -> None:
        """Run until a command makes the daemon pass a failpoint, which kills it."""
        self.start(failpoint)
        self.wait_until_started()
        with pytest.raises((TemporaryError, NoDaemonError)):
            ask_daemon(self.lineage_log.parent, command)

        assert -signal.SIGKILL == self.wait()

    def wait_until_started(self) -> None:
        """Wait until this run is ready; before that a signal would find no handler."""
        self.wait_until(lambda: self._num_starts() > self._num_starts_before)

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None, "not started"
        os.kill(self._process.pid or 0, number)

    def run_until_tasks(self, number: int) -> int:
        """Run until so many tasks are closed, stop in order, return the exit code."""
        self.start()
        self.wait_until_started()
        self.wait_until(lambda: len(self.outcomes()) >= number)
        return self.terminate()

    def _num_starts(self) -> int:
        return len(self.events("started"))

    def terminate(self) -> int:
        """Stop in order and return the exit code."""
        assert self._process is not None, "not started"
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Kill as a crash would."""
        assert self._process is not None, "not started"
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.is_alive():
            self.kill()

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Outcome)]

    def plans(self) -> list[Plan]:
        """Return the plans in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Plan)]

    def skips(self) -> list[Skip]:
        """Return the skips in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Skip)]

    def entries(self) -> list[Entry]:
        """Return the whole lineage log."""
        if not self.lineage_log.exists():
            return []
        return [logged.entry for logged in read_lineage_log(self.lineage_log)]
