"""The stop rule: a few bad records never stop reading, too many of the newest do."""

import pytest

from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.stop_rule import StopRule, TakenIn


def test_without_a_share_nothing_stops() -> None:
    """However bad the records are."""
    StopRule(max_share=None, window_records=10).observe(100, 100)


def test_nothing_stops_before_the_window_is_full() -> None:
    """A bad first record is no half of the stream."""
    StopRule(max_share=0.5, window_records=10).observe(9, 9)


def test_too_many_of_the_newest_stop() -> None:
    """With both numbers and the setting."""
    rule = StopRule(max_share=0.5, window_records=10)
    rule.observe(10, 5)

    with pytest.raises(UnavailableError, match=r"8 of the last 10 .*max_rejected_share: 0\.5"):
        rule.observe(10, 8)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    """Bad times pass."""
    rule = StopRule(max_share=0.5, window_records=10)
    rule.observe(10, 5)
    for _ in range(3):
        rule.observe(5, 2)
    rule.observe(5, 3)

    with pytest.raises(UnavailableError, match="6 of the last 10"):
        rule.observe(5, 3)


def test_one_of_several_ranks_only_counts() -> None:
    """Whether it is too much is for all of them together."""
    taken_in = TakenIn()
    taken_in.observe(5, 5)
    taken_in.observe(7, 0)

    assert (12, 5) == taken_in.counts
