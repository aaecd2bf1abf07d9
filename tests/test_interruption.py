"""What a start that takes long lets others see, and how it ends early."""

import threading

import pytest

from teacherd.daemon.interruption import Interruption, StopRequestedError


def test_each_check_of_a_start_shows_that_it_goes_on() -> None:
    """Until the start is over: then the loops show it themselves."""
    shown: list[int] = []
    interruption = Interruption(threading.Event(), on_progress=lambda: shown.append(1))
    interruption.check()
    interruption.check()
    interruption.end()
    interruption.check()

    assert [1, 1] == shown


def test_a_start_that_is_not_wanted_any_more_ends() -> None:
    """At the next check, which then shows no progress; a stop after the start is the loops'."""
    stop = threading.Event()
    shown: list[int] = []
    interruption = Interruption(stop, on_progress=lambda: shown.append(1))
    stop.set()
    with pytest.raises(StopRequestedError):
        interruption.check()
    interruption.end()
    interruption.check()

    assert [] == shown
