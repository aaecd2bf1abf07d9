"""Reading a small file that somebody else wrote: plain, bounded, and where it claims to be."""

import errno
import os
import stat
from pathlib import Path


class PlainFileError(Exception):
    """There is no such file to read. `reason` is missing, path, size or unreadable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_plain_file(path: Path, *, largest_bytes: int) -> bytes:
    """Return the content; a link is not followed, a pipe not waited for, a giant not read.

    Raises:
        PlainFileError: It is missing, no regular file, too large or unreadable.
    """
    try:
        try:
            return _read(path, largest_bytes)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # On a network file system the file was replaced: its name leads to the new one.
            return _read(path, largest_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PlainFileError("missing", "is not there") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PlainFileError("path", "is a link; links are not followed") from error
        raise PlainFileError("unreadable", f"cannot be read: {error.strerror}") from error


def _read(path: Path, largest_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PlainFileError("path", "is no regular file")
        if status.st_size > largest_bytes:
            raise PlainFileError(
                "size", f"has {status.st_size} bytes, more than the {largest_bytes} expected"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(largest_bytes)
    finally:
        os.close(descriptor)
