"""Durable writes: what returns is on the disk, and a crash leaves the old or the new, no mix.

Every write goes temp file, flush, fsync, rename, fsync of the directory. Each point at which a
crash could tell the difference is a named failpoint, so that a test can kill the process there.
"""

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from teacherd.daemon.errors import StateError

T = TypeVar("T")

TEMPORARY_PREFIX = ".tmp-"
FAILPOINT_VARIABLE = "TEACHERD_FAILPOINT"


class Failpoints:
    """Kills the process with SIGKILL at the n-th passing of one named point, as a crash would.

    The environment variable TEACHERD_FAILPOINT holds `name` or `name:n`, where `*` stands for
    every point; unset, nothing happens.
    """

    def __init__(self, setting: str | None) -> None:
        self._tell: Callable[[str], object] | None = None
        self.arm(setting)

    def arm(self, setting: str | None) -> None:
        """Choose the point; None disarms."""
        name, _, count = (setting or "").partition(":")
        self._name = name
        self._left = int(count or 1)

    def watch(self, tell: Callable[[str], object]) -> None:
        """Have the name of every point told from now on, before it may kill."""
        self._tell = tell

    def reach(self, name: str) -> None:
        """Pass the point `name`; does not return if this is the armed one."""
        if self._tell is not None:
            self._tell(name)
        if self._name not in {name, "*"}:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


failpoints = Failpoints(os.environ.get(FAILPOINT_VARIABLE))
failpoint = failpoints.reach


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, unless it is there; its name is durable on return.

    Raises:
        OSError: The disk refused.
    """
    missing = [each for each in path.parents if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # Also where it was there: whoever made it may have died before the name was durable.
    for parent in dict.fromkeys([*(each.parent for each in missing), path.parent]):
        sync_directory(parent)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content.

    Raises:
        StateError: The disk refused; the old content is untouched.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            failpoint(f"{path.name}.written")
            file.flush()
            os.fsync(file.fileno())
        failpoint(f"{path.name}.synced")
        temporary.replace(path)
        failpoint(f"{path.name}.renamed")
        sync_directory(path.parent)
        failpoint(f"{path.name}.durable")
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StateError(path, f"cannot be written: {error.strerror or error}") from error


def write_folder(path: Path, fill: Callable[[Path], T], *, name: str) -> T:
    """Make a folder appear at once, with all that `fill` puts into it; return what `fill` does.

    Args:
        path: Where it appears; must not exist yet.
        fill: Writes files and folders into the empty folder that it is given.
        name: What the failpoints of this folder are called.

    Raises:
        StateError: The disk refused; nothing has appeared.
    """
    temporary = _temporary(path)
    lock = None
    try:
        temporary.mkdir(parents=True)
        lock = _lock(temporary)
        failpoint(f"{name}.made")
        result = fill(temporary)
        failpoint(f"{name}.written")
        sync_tree(temporary)
        failpoint(f"{name}.synced")
        temporary.rename(path)
        failpoint(f"{name}.renamed")
        sync_directory(path.parent)
        failpoint(f"{name}.durable")
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StateError(path, f"cannot be written: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)
    return result


def remove_folder(path: Path) -> None:
    """Remove a folder so that a crash leaves the whole of it or nothing under its name.

    What cannot go now is left under a temporary name, for the next start.

    Raises:
        OSError: The disk refused to take the name away.
    """
    doomed = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-removed")
    path.rename(doomed)
    failpoint("removal.renamed")
    # Else a power cut could bring back the name, but not what was in the folder.
    sync_directory(path.parent)
    shutil.rmtree(doomed, ignore_errors=True)
    failpoint("removal.done")


def remove_temporaries(directory: Path) -> list[Path]:
    """Remove what interrupted writes left in a directory, and return what it was."""
    leftovers = sorted(directory.glob(f"{TEMPORARY_PREFIX}*"))
    for path in leftovers:
        remove(path)
    return leftovers


def is_abandoned(draft: Path) -> bool:
    """Tell whether nobody is writing a folder that has not appeared yet: its writer was killed.

    Raises:
        OSError: It cannot be opened.
    """
    lock = _lock(draft)
    if lock is None:
        return False
    os.close(lock)
    return True


def remove(path: Path) -> None:
    """Remove a file or a whole folder; a file that has gone meanwhile is as good as removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Make a file, or a folder and everything below it, durable, but for its own name."""
    for each in path.rglob("*"):
        _sync_path(each)
    _sync_path(path)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a rename is not, until its directory is synced."""
    _sync_path(path)


def _lock(folder: Path) -> int | None:
    """Hold a folder until the descriptor is closed, or the process ends.

    Returns:
        None if another process holds it, or its file system knows no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _temporary(path: Path) -> Path:
    return path.parent / f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}"


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
