"""The lock of a state directory: one lineage has one writer."""

import fcntl
import os
from pathlib import Path
from typing import IO

from teacherd.daemon.errors import StateError, TemporaryError


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
            self._file: IO[str] = path.open("a+")
        except OSError as error:
            raise StateError(path, f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise TemporaryError(
                f"{directory}: in use by process {holder}; a state directory has one writer: "
                "stop that process, or give this one a state.directory of its own"
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def close(self) -> None:
        """Give the directory back."""
        self._file.close()
