"""Lag by records and by age, and what counts as a stall: a fold over looks at the ends."""

import pytest

from teacherd.consumers.kafka_lag import KafkaLag
from teacherd.consumers.record import Partition
from teacherd.consumers.source import Lag

PARTITION = Partition("topic", 0)
STALL_SECONDS = 10.0


class Looks:
    """A lag that is looked at every now and then."""

    def __init__(self) -> None:
        self._lag = KafkaLag(stall_seconds=STALL_SECONDS)

    def __call__(
        self,
        now: float,
        end: int,
        position: int,
        *,
        oldest_ms: int | None = None,
        is_paused: bool = False,
        clock_is_off_by: float = 0.0,
    ) -> Lag:
        """Return the lag of the one partition."""
        oldest = {} if oldest_ms is None else {PARTITION: oldest_ms}
        lags = self._lag.update(
            {PARTITION: end},
            {PARTITION: position},
            oldest,
            is_paused=is_paused,
            now=now + clock_is_off_by,
            monotonic=now,
        )
        return lags[PARTITION]


@pytest.fixture
def look() -> Looks:
    """Return a lag that nobody has looked at yet."""
    return Looks()


def test_nothing_lags_at_the_end(look: Looks) -> None:
    """Nor where the position is beyond what is stable for a moment."""
    assert Lag(0, None) == look(1.0, 5, 5)
    assert Lag(0, None) == look(2.0, 4, 5)


def test_the_age_is_that_of_the_first_record_beyond(look: Looks) -> None:
    """As the source knows it; where a partition had nothing more, from then on."""
    assert Lag(3, 700) == look(1.0, 8, 5, oldest_ms=700)

    look(2.0, 8, 8, oldest_ms=900)

    assert Lag(2, 2000) == look(3.0, 10, 8, oldest_ms=900)


def test_a_position_that_stays_while_there_is_more_stalls(look: Looks) -> None:
    """After the time that is set, until it moves."""
    assert not look(1.0, 8, 5).is_stalled
    assert not look(10.0, 9, 5).is_stalled
    assert look(11.0, 9, 5).is_stalled
    assert not look(12.0, 9, 6).is_stalled


def test_neither_silence_nor_a_pause_is_a_stall(look: Looks) -> None:
    """Time counts from when there was something to give to somebody who asked."""
    look(1.0, 5, 5)
    look(19.0, 5, 5)

    assert not look(28.0, 8, 5).is_stalled
    assert not look(40.0, 8, 5, is_paused=True).is_stalled
    assert not look(49.0, 8, 5).is_stalled
    assert look(50.0, 8, 5).is_stalled


def test_a_clock_that_is_set_is_no_stall_and_ends_none(look: Looks) -> None:
    """Time is that of a clock that nobody sets."""
    look(1.0, 8, 5)

    assert not look(2.0, 8, 5, clock_is_off_by=3600.0).is_stalled
    assert look(11.0, 8, 5, clock_is_off_by=-3600.0).is_stalled
