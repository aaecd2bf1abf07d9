"""A wish to learn all there is and then to end, between the threads that fulfil it.

Learning is asked, intake says when the stream has been read to its end, and reads no further.
"""

import threading


class Draining:
    """`ask` and `is_complete` are the learning thread's, the rest intake's.

    Args:
        has_others: Whether other ranks read parts of the stream.
    """

    def __init__(self, *, has_others: bool = False) -> None:
        self._asked = threading.Event()
        self._at_end = threading.Event()
        self._at_end_elsewhere = threading.Event()
        if not has_others:
            self._at_end_elsewhere.set()

    def ask(self) -> None:
        """Begin; there is no way back but to start anew."""
        self._asked.set()

    @property
    def is_asked(self) -> bool:
        """Whether the end of the stream is waited for."""
        return self._asked.is_set()

    def reach_end(self) -> None:
        """Nothing was left to be read; what comes from now on is for the next start."""
        self._at_end.set()

    def reach_end_elsewhere(self) -> None:
        """No other rank has anything left to read."""
        self._at_end_elsewhere.set()

    @property
    def is_at_end(self) -> bool:
        """Whether this process has taken in all that it is to."""
        return self._at_end.is_set()

    @property
    def is_complete(self) -> bool:
        """Whether all that is to be learned has been taken in."""
        return self._at_end.is_set() and self._at_end_elsewhere.is_set()
