"""The processes of the demo: started, watched, ended; their output kept in files."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from teacherd.daemon.errors import UnavailableError

_END_SECONDS = 40.0


class DemoProcess:
    """One of our own modules as a process of its own; its stderr goes to a file.

    Args:
        name: For the log's name and for messages.
        arguments: `python -m` and what follows it.
    """

    def __init__(self, name: str, arguments: list[str], *, log: Path) -> None:
        self._name = name
        self._log = log
        self._file: IO[bytes] = log.open("wb")
        self._process = subprocess.Popen(  # noqa: S603 (our own modules, no shell)
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._file,
        )

    def require_alive(self) -> None:
        """Check that it has not ended.

        Raises:
            UnavailableError: It has; shows the end of what it wrote.
        """
        code = self._process.poll()
        if code is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
            raise UnavailableError(f"the {self._name} ended with {code}, see {self._log}:\n{tail}")

    def first_event(self, name: str) -> dict[str, Any] | None:
        """Return the first event of that name in its JSON log, None while there is none."""
        for line in self._log.read_text(errors="replace").splitlines():
            event = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
            if event.get("event") == name:
                return dict(event)
        return None

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def finish(self) -> str:
        """Wait for its end and return its stdout.

        Raises:
            UnavailableError: It failed, or did not end.
        """
        try:
            output, _ = self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"the {self._name} does not end, see {self._log}") from error
        if self._process.returncode != 0:
            self.require_alive()
        return output.decode()

    def terminate(self) -> None:
        """Ask it to end in order, and see that it does."""
        self._process.send_signal(signal.SIGTERM)
        self.finish()

    def close(self) -> None:
        """Leave nothing behind, however the demo ends."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._file):
            if stream is not None:
                stream.close()
