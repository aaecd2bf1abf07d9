"""The lock of a state directory: one lineage has one writer."""

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from teacherd.daemon.errors import StateError, TemporaryError

_LONGEST_PID = 20
_POLL_SECONDS = 0.2


class HeldError(TemporaryError):
    """Another process holds the state directory."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory}: in use by process {holder}; a state directory has one writer: stop that "
            "process, give this one a process.state_directory of its own, or let it wait with "
            "`teacherd run --standby`"
        )
        self.holder = holder
        """Its process number, as it wrote it down."""


class StateLock:
    """Holds a state directory for this process until `close` or death.

    The lock is the kernel's (flock), so kill -9 gives it back; the pid inside is for people.

    Raises:
        HeldError: Another process holds it; names its pid.
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
            # Whoever waited may have been given the lock of a directory that was moved away.
            is_held = not os.path.samestat(os.fstat(self._descriptor), path.stat())
        except BlockingIOError:
            is_held = True
        except OSError as error:
            self.close()
            raise StateError(path, f"cannot be locked: {error.strerror}") from error
        if is_held:
            holder = os.pread(self._descriptor, _LONGEST_PID, 0).decode().strip() or "unknown"
            self.close()
            raise HeldError(directory, holder)
        self._write_pid(path)

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._descriptor)

    def _write_pid(self, path: Path) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            self.close()
            raise StateError(path, f"cannot be written: {error.strerror}") from error


def require_not_held(directory: Path) -> None:
    """See that no other process holds a state directory, and hold it no longer than that.

    Raises:
        HeldError: One does.
        StateError: The directory cannot be written.
    """
    if (directory / "lock").exists():
        StateLock(directory).close()


def wait_for_lock(
    directory: Path,
    *,
    stop: threading.Event,
    on_held: Callable[[str], None],
    on_wait: Callable[[], None],
) -> StateLock | None:
    """Wait until the state directory is given back, and take it; None if told to stop before.

    Args:
        directory: The state directory.
        stop: Set when there is no need to wait any longer.
        on_held: Told the process number of each holder, once.
        on_wait: Called at each attempt.

    Raises:
        StateError: The directory cannot be written.
    """
    holder = None
    while not stop.is_set():
        on_wait()
        try:
            return StateLock(directory)
        except HeldError as error:
            if error.holder != holder:
                holder = error.holder
                on_held(holder)
        stop.wait(_POLL_SECONDS)
    return None
