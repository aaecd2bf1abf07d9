"""Starts the real `teacherd serve` as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from log_events import log_events

SUPPORT = Path(__file__).parent
LIMIT_SECONDS = 300.0
"""For whatever is waited for: the import of torch alone takes minutes on a busy machine."""


class ServingProcess:
    """One run; ends with the block.

    Args:
        directory: Holds the log.
        root: What is served.
        settings: Of section `serving`.
    """

    def __init__(self, directory: Path, root: Path | str, **settings: object) -> None:
        self.log_path = directory / "serve.log"
        values = {"port": 0, "poll_seconds": 0.02, "device": "cpu", "num_threads": 1, **settings}
        flags = [
            argument
            for name, value in values.items()
            for argument in ("--set", f"serving.{name}={json.dumps(value)}")
        ]
        config = directory / "config.yaml"
        config.touch()
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "teacherd.daemon", "serve", str(root), "-c", config, *flags],
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SUPPORT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self.log_path.read_text(errors="replace")

    @property
    def address(self) -> str:
        """Host and port; waits until it listens."""
        return f"127.0.0.1:{self.wait_for_event('listening')['port']}"

    def wait_until_ready(self) -> Self:
        """Wait until a version is served."""
        self.wait_for_event("started")
        return self

    def get(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Return status code and body, as JSON where it is some."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{self.address}{path}", data=body, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (as above)
                code, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                code, content = error.code, error.read()
        try:
            return code, json.loads(content)
        except ValueError:
            return code, content.decode()

    def stop(self) -> int:
        """Stop it in order and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"does not end:\n{self.log}") from error

    def wait_for_event(self, name: str) -> dict[str, Any]:
        """Wait until it has told of an event; return the first of that name."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            has_ended = self.process.poll() is not None
            if events := log_events(self.log, name):
                return events[0]
            if has_ended:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {name}, exit code {self.process.poll()}:\n{self.log}")
