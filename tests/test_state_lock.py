"""The lock: one process at a time, given back by death."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from teacherd.daemon.errors import ExitCode, StateError, TemporaryError
from teacherd.daemon.state_lock import StateLock, wait_for_lock

HOLD = """
import sys
from pathlib import Path
from teacherd.daemon.state_lock import StateLock
lock = StateLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def num_descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def hold_elsewhere(directory: Path) -> "subprocess.Popen[bytes]":
    """Start a process that holds the lock until it is killed or its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert b"held\n" == holder.stdout.readline()
    return holder


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    """The error names the holder and may be retried; SIGKILL gives the lock back."""
    with hold_elsewhere(tmp_path) as holder:
        with pytest.raises(TemporaryError, match=f"in use by process {holder.pid}") as caught:
            StateLock(tmp_path)
        holder.kill()
        holder.wait()

    assert ExitCode.TEMPORARY == caught.value.exit_code

    StateLock(tmp_path).close()


def test_a_closed_lock_can_be_taken_again(tmp_path: Path) -> None:
    """The same process may close and open a state directory."""
    StateLock(tmp_path).close()
    lock = StateLock(tmp_path)

    with pytest.raises(TemporaryError, match=f"process {os.getpid()};"):
        StateLock(tmp_path)

    lock.close()


def test_a_longer_pid_left_behind_does_not_show_through(tmp_path: Path) -> None:
    """The holder's number is the whole content."""
    (tmp_path / "lock").write_text("4000000000\n")
    lock = StateLock(tmp_path)

    assert f"{os.getpid()}\n" == (tmp_path / "lock").read_text()

    lock.close()


def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    """The error says which file and why."""
    (tmp_path / "lock").mkdir()

    with pytest.raises(StateError, match="lock: cannot be opened: Is a directory"):
        StateLock(tmp_path)


def test_a_refused_attempt_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """A standby that tries again and again must not run out of them."""
    lock = StateLock(tmp_path)
    before = num_descriptors()
    for _ in range(5):
        with pytest.raises(TemporaryError):
            StateLock(tmp_path)

    assert before == num_descriptors()

    lock.close()


def test_the_lock_of_a_directory_that_was_moved_away_is_not_taken(tmp_path: Path) -> None:
    """Else two processes would each hold a lock, and write into the same directory."""
    directory = tmp_path / "state"
    directory.mkdir()
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    others: list[StateLock] = []
    held: list[str] = []

    class Pauses(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            """Let things happen between two attempts."""
            assert timeout is not None
            if others:
                self.set()
            else:
                directory.rename(tmp_path / "moved")
                directory.mkdir()
                others.append(StateLock(directory))
                os.close(descriptor)
            return self.is_set()

    taken = wait_for_lock(directory, stop=Pauses(), on_held=held.append, on_wait=lambda: None)
    others[0].close()

    assert taken is None
    assert ["unknown", str(os.getpid())] == held
