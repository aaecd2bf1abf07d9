"""A terminal on which a program runs, as a person sees it."""

import os
import pty
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 300.0
_ROWS_AND_COLUMNS = (150, 120)
"""What does not fit is cut off, the tasks first."""
_POLL_SECONDS = 0.05


class Terminal:
    """Runs a command on a pseudo-terminal from construction until `close`.

    Everything that it draws is read at once: a program whose terminal nobody reads stands still.
    """

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, _ROWS_AND_COLUMNS)
        # Of that terminal's own session, so that Ctrl+C reaches it as it does a person's.
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            cwd=directory,
            env=_environment(),
            start_new_session=True,
        )
        os.close(theirs)
        self._drawn = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def drawn(self) -> bytes:
        """Everything drawn so far."""
        return self._drawn

    def wait_for(self, *texts: str) -> None:
        """Wait until each of the texts has been drawn."""
        deadline = time.monotonic() + _SECONDS
        while not all(text.encode() in self._drawn for text in texts):
            assert self._process.poll() is None, self._drawn.decode()
            assert time.monotonic() < deadline, self._drawn.decode()
            time.sleep(_POLL_SECONDS)

    def interrupt(self) -> int:
        """Press Ctrl+C; return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(_SECONDS)

    def close(self) -> None:
        """Leave no process and no open file behind."""
        self._process.kill()
        self._process.wait(_SECONDS)
        self._reader.join(_SECONDS)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while drawn := os.read(self._ours, 65536):
                self._drawn += drawn
        except OSError:
            return  # the program has ended


def _environment() -> dict[str, str]:
    """Return ours without what would speak of another terminal than the one that is made."""
    others = {"COLUMNS", "LINES", "TERM"}
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return {**kept, "TERM": "xterm-256color"}
