"""Niceness: the learning thread's own, and no other's."""

import os
import sys
import threading

import pytest

from teacherd.daemon.niceness import give_way

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a thread has a niceness of its own on Linux only"
)


def niceness() -> int:
    """Return the niceness of the thread that asks."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def niceness_in_a_thread_that_gives_way(*steps: int) -> int:
    """Return what a thread has in the end that gave way by these steps."""
    found = []

    def run() -> None:
        for step in steps:
            give_way(step)
        found.append(niceness())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_gives_way_alone() -> None:
    """The niceness is added to that of the process; its other threads keep theirs."""
    before = niceness()

    assert min(19, before + 7) == niceness_in_a_thread_that_gives_way(7)
    assert before == niceness()


def test_none_changes_nothing_and_too_much_is_the_most() -> None:
    """0 leaves a thread alone; the system has no more than 19."""
    assert niceness() == niceness_in_a_thread_that_gives_way(0)
    assert 19 == niceness_in_a_thread_that_gives_way(15, 15)
