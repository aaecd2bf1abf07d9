"""A lock that many hold together or one holds alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Many readers at once or one writer; who wants to write goes before later readers.

    Not reentrant: a reader that reads again while a writer waits would wait for itself.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._num_readers = 0
        self._is_claimed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with other readers."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_claimed)
            self._num_readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._num_readers -= 1
                self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold it alone."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_claimed)
            self._is_claimed = True
            self._condition.wait_for(lambda: self._num_readers == 0)
        try:
            yield
        finally:
            with self._condition:
                self._is_claimed = False
                self._condition.notify_all()
