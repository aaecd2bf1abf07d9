"""The demo's folder: emptied of an earlier demo, never of anything else, and held while it runs."""

import fcntl
import os
import shutil
from pathlib import Path

from teacherd.daemon.errors import TemporaryError, UsageError

_MARKER = ".teacherd-demo"


class DemoFolder:
    """A folder of one demo, from construction to `close`.

    Raises:
        UsageError: It holds something that is no demo, or it cannot be written.
        TemporaryError: Another demo runs in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if path.exists() and any(path.iterdir()) and not (path / _MARKER).exists():
                raise UsageError(
                    f"--out: {path} holds something that is no demo; name another folder"
                )
            path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path / _MARKER, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._empty()
        except BlockingIOError as error:
            self.close()
            raise TemporaryError(
                f"--out: another demo runs in {path}; wait for its end, or name another folder"
            ) from error
        except OSError as error:
            self.close()
            raise _unusable(path, error) from error

    def close(self) -> None:
        """Let another demo use it."""
        os.close(self._descriptor)

    def _empty(self) -> None:
        for entry in self._path.iterdir():
            if entry.name == _MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _unusable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--out: {path} cannot be used: {error.strerror}; name another folder")
