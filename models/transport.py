"""How files of a remote root are read: the contract of HTTP and of object stores alike."""

from collections.abc import Iterator
from typing import Protocol


class TransportError(Exception):
    """A remote file could not be read. `reason` is `missing`, `size` or `unreachable`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Transport(Protocol):
    """Reads files by their path below one remote root."""

    def place(self, name: str) -> str:
        """Return where a file is, in words for a message; never holds a secret."""

    def read(self, name: str, *, largest_bytes: int) -> bytes:
        """Return a small file.

        Raises:
            TransportError: It is not there, too large, or nobody answers.
        """

    def read_if_changed(self, name: str, *, largest_bytes: int) -> bytes | None:
        """Return a small file; None if it is as it was when this last returned it.

        Raises:
            TransportError: It is not there, too large, or nobody answers.
        """

    def forget(self, name: str) -> None:
        """Take the file for changed at the next `read_if_changed`."""

    def stream(self, name: str, *, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes from start to end in pieces, each with its place in the file.

        The first place may be 0 in spite of `start`, where the other side knows no ranges.

        Raises:
            TransportError: It is not there, or nobody answers any more.
        """
