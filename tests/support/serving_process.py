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

SUPPORT = Path(__file__).parent


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
        return f"127.0.0.1:{self._event('listening')['port']}"

    def wait_until_ready(self) -> Self:
        """Wait until a version is served."""
        self._event("started")
        return self

    def get(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Return status code and body, as JSON where it is some."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{self.address}{path}", data=body, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (as above)
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
        return self.process.wait(60)

    def _event(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for line in self.log.splitlines():
                if line.startswith("{") and json.loads(line).get("event") == name:
                    event: dict[str, Any] = json.loads(line)
                    return event
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {name}, exit code {self.process.poll()}:\n{self.log}")
