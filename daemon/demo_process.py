"""The processes of the demo: started, watched, ended; their output kept in files."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from teacherd.daemon.errors import UnavailableError

_END_SECONDS = 120.0
_NUM_TAIL_LINES = 5


class DemoProcess:
    """One of our own modules as a process of its own; its stderr goes to a file.

    Args:
        name: For messages.
        arguments: What follows `python -m`.
        log: Overwritten.
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

    def require_running(self) -> None:
        """Check that it has not ended.

        Raises:
            UnavailableError: It has; shows the end of what it wrote.
        """
        if self._process.poll() is not None:
            raise self._ended()

    def require_no_failure(self) -> None:
        """Check that it runs, or has ended well.

        Raises:
            UnavailableError: It has failed; shows the end of what it wrote.
        """
        if self._process.poll():
            raise self._ended()

    def first_event(self, name: str) -> dict[str, Any] | None:
        """Return the first event of that name in its JSON log, None while there is none."""
        whole_lines, _, _ = self._log.read_text(errors="replace").rpartition("\n")
        for line in whole_lines.splitlines():
            with contextlib.suppress(ValueError):  # a warning of a library is no event
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == name:
                    return event
        return None

    def say(self, line: str) -> None:
        """Write a line to its stdin; if it has ended, `finish` tells why."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
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
        self.require_no_failure()
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
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _ended(self) -> UnavailableError:
        lines = self._log.read_text(errors="replace").splitlines()
        tail = "".join(f"\n  {line}" for line in lines[-_NUM_TAIL_LINES:])
        return UnavailableError(
            f"the {self._name} ended with {self._process.returncode}, see {self._log}:{tail}"
        )
