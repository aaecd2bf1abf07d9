"""A wish to learn all there is and then to end, between the threads that fulfil it.

Learning is asked, intake says when the stream has been read to its end, and reads no further.
"""

import threading


class Draining:
    """`ask` and `is_at_end` are the learning thread's, `reach_end` and `is_asked` intake's."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._at_end = threading.Event()

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

    @property
    def is_at_end(self) -> bool:
        """Whether all that is to be learned has been taken in."""
        return self._at_end.is_set()
