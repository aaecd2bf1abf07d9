"""The lock of a state directory: one lineage has one writer."""

import fcntl
import os
from pathlib import Path

from teacherd.daemon.errors import StateError, TemporaryError

_LONGEST_PID = 20


class StateLock:
    """Holds a state directory for this process until `close` or death.

    The lock is the kernel's (flock), so kill -9 gives it back; the pid inside is for people.

    Raises:
        TemporaryError: Another process holds it; names its pid.
        StateError: The directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise StateError(path, f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        except BlockingIOError as error:
            holder = os.read(self._descriptor, _LONGEST_PID).decode().strip() or "unknown"
            self.close()
            raise TemporaryError(
                f"{directory}: in use by process {holder}; a state directory has one writer: stop "
                "that process, or give this one a process.state_directory of its own"
            ) from error
        except OSError as error:
            self.close()
            raise StateError(path, f"cannot be locked: {error.strerror}") from error

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._descriptor)
