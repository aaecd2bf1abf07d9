"""How readily the learning thread gives way to other threads and processes."""

import os
import sys
import threading

MAX_NICENESS = 19
"""What Linux has no more of."""


def give_way(niceness: int) -> None:
    """Let this thread, and those that it starts, take what others leave of a contended processor.

    Args:
        niceness: Added to what the process has; a step is about a quarter more for the others.
            Without effect on systems other than Linux, where a thread has no niceness of its own.
    """
    if niceness and sys.platform == "linux":
        thread = threading.get_native_id()
        present = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(MAX_NICENESS, present + niceness))
