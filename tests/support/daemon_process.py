"""Starts the real daemon as a process of its own and talks to it from outside."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from log_events import log_events

LIMIT_SECONDS = 300.0
"""For whatever is waited for: the import of torch alone takes minutes on a machine with too much to
do, and an fsync seconds."""
_POLL_SECONDS = 0.05


class DaemonProcess:
    """One run of `teacherd run`; the state directory outlives it.

    Args:
        directory: Holds config.yaml, the state, the stream log and the daemon's log.
        settings: Sections laid over those that make a small daemon.
        environment: Besides the test's own.
        launcher: What Python runs before the daemon's module, such as torchrun's.
    """

    def __init__(
        self,
        directory: Path,
        settings: dict[str, dict[str, Any]],
        environment: dict[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.config_path = directory / "config.yaml"
        self.log_path = directory / "daemon.log"
        self.state = directory / "state"
        self.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._launcher = launcher
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self, seconds: float = LIMIT_SECONDS) -> "DaemonProcess":
        """Start it and wait until it is ready."""
        self.spawn()
        self.wait_until(lambda: self.port != 0 and self.get("/readyz")[0] == 200, seconds)
        return self

    def spawn(self) -> None:
        """Start it and do not wait."""
        self.port = 0
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, *self._launcher, "-m", "teacherd.daemon"),
                    *("run", "--config", str(self.config_path)),
                ],
                cwd=self.directory,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running process."""
        assert self._process is not None, "not started"
        return self._process

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log events of the last start, all or those of one name."""
        return log_events(self.log_text(), name)

    def log_text(self) -> str:
        """Return everything that the last start wrote."""
        return self.log_path.read_bytes()[self._log_start :].decode(errors="replace")

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status code and body of an endpoint; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def status(self) -> dict[str, Any]:
        """Return /status."""
        code, body = self.get("/status")
        assert code == HTTPStatus.OK, f"/status: {code}\n{self.log_text()[-5000:]}"
        answer: dict[str, Any] = json.loads(body)
        return answer

    def wait_until(self, condition: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
        """Wait for a condition, and fail with the daemon's log if it does not come true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            has_ended = self.process.poll() is not None
            if self.port == 0:
                self._find_port()
            if condition():
                return
            if has_ended:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.log_text()}")
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"not within {seconds} s:\n{self.log_text()[-5000:]}")

    def wait_for_tasks(self, number: int, seconds: float = LIMIT_SECONDS) -> None:
        """Wait until so many tasks of the lineage are closed."""
        self.wait_until(
            lambda: sum(self.status().get("lineage", {}).get("outcomes", {}).values()) >= number,
            seconds,
        )

    def stop(self) -> int:
        """Stop it in order and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it as a crash would."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = LIMIT_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"does not end:\n{self.log_text()[-5000:]}") from error

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _find_port(self) -> None:
        started = self.events("listening")
        if started:
            self.port = started[-1]["port"]
