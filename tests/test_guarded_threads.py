"""Tests of the threads of a process."""

import threading
import time

import pytest
from structlog.testing import capture_logs

from teacherd.daemon.errors import ConfigurationError, ExitCode, Problem, UnavailableError
from teacherd.daemon.guarded_threads import GuardedThreads


@pytest.fixture
def stop() -> threading.Event:
    """Give what ends the process."""
    return threading.Event()


def join(threads: GuardedThreads, *, seconds: float = 300.0) -> list[str]:
    """Wait for so long; return the names in the order in which the wait for them was over."""
    deadline = time.monotonic() + seconds
    return [*threads.join(may_wait=lambda: time.monotonic() < deadline)]


def test_threads_that_end_by_themselves_end_nothing_else(stop: threading.Event) -> None:
    """The process goes on, and would end with 0."""
    threads, done = GuardedThreads(stop), threading.Event()
    threads.start("one", done.set)

    assert ["one"] == join(threads)
    assert done.is_set()
    assert not stop.is_set()
    assert ExitCode.OK is threads.exit_code
    assert [] == threads.alive


def test_the_first_error_of_a_thread_ends_the_process_with_its_code(stop: threading.Event) -> None:
    """What fails because of it afterwards is told, but changes nothing."""
    threads = GuardedThreads(stop)

    def fail() -> None:
        raise ConfigurationError([Problem("topic", "is gone")])

    def fail_too() -> None:
        stop.wait(300)
        raise UnavailableError("no more")

    with capture_logs() as logs:
        threads.start("one", fail)
        threads.start("two", fail_too)
        join(threads)

    assert stop.is_set()
    assert ExitCode.CONFIGURATION is threads.exit_code
    assert ["one", "two"] == [each["thread"] for each in logs]
    assert ["is gone", "no more"] == [each["error"][-7:] for each in logs]


def test_only_an_error_that_does_not_explain_itself_is_told_with_its_traceback(
    stop: threading.Event,
) -> None:
    """The exit code of such a one is that of a fault of ours."""
    threads, error = GuardedThreads(stop), KeyError("x")
    with capture_logs() as logs:
        threads.fail("main", error)
        threads.fail("main", UnavailableError("gone"))

    assert [error, None] == [each["exc_info"] for each in logs]
    assert ExitCode.INTERNAL is threads.exit_code


def test_a_thread_that_hangs_is_waited_for_no_longer_than_one_may(stop: threading.Event) -> None:
    """Those behind it are named all the same, and life is shown meanwhile."""
    threads, go, signs = GuardedThreads(stop), threading.Event(), list[None]()
    threads.start("hangs", lambda: go.wait(300) or None)
    threads.start("ends", lambda: None)
    names = [
        *threads.join(
            may_wait=lambda: threads.alive != ["hangs"] or not signs,
            on_wait=lambda: signs.append(None),
        )
    ]

    assert ["hangs", "ends"] == names
    assert ["hangs"] == threads.alive
    assert signs
    go.set()
    join(threads)
    assert [] == threads.alive
