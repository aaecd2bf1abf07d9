"""Tests of signals: they set flags while they are handled, and only then."""

import os
import signal
import threading
from collections.abc import Iterable

import pytest

from teacherd.daemon.signals import ending, handled


def send(number: signal.Signals) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), number)


def test_the_first_signal_ends_and_the_second_ends_at_once() -> None:
    """Whichever of the two it is; what is to happen at the end is told each time."""
    stop, force, told = threading.Event(), threading.Event(), []
    handlers = ending(
        stop=stop, force=force, hang_up=signal.SIG_IGN, on_end=lambda: told.append(force.is_set())
    )
    with handled(handlers):
        send(signal.SIGTERM)
        after_one = (stop.is_set(), force.is_set())
        send(signal.SIGINT)

    assert (True, False) == after_one
    assert force.is_set()
    assert [False, True] == told


def test_a_hang_up_ends_nothing() -> None:
    """It does what it is told to do."""
    stop, reload = threading.Event(), threading.Event()
    handlers = ending(stop=stop, force=threading.Event(), hang_up=lambda *_: reload.set())
    with handled(handlers):
        send(signal.SIGHUP)

    assert reload.is_set()
    assert not stop.is_set()


def fail(numbers: Iterable[signal.Signals]) -> None:
    """Fail while signals are ignored."""
    with handled(dict.fromkeys(numbers, signal.SIG_IGN)):
        assert {signal.SIG_IGN} == {signal.getsignal(number) for number in numbers}
        raise ZeroDivisionError


def test_what_handled_a_signal_before_does_so_again() -> None:
    """Also where what was done meanwhile has failed."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(ZeroDivisionError):
        fail(before)

    assert before == {number: signal.getsignal(number) for number in before}
