"""Ages: of whatever waits longest, and of what is served."""

import pytest

from teacherd.daemon.ages import ages, lag_seconds, seconds_since


def test_the_lag_is_that_of_the_oldest_record_wherever_it_waits() -> None:
    """Unread, buffered or being learned; nothing waiting is no lag, nor is a clock set back."""
    sections = {
        "intake": {"oldest_timestamp_ms": 9_000},
        "buffer": {"oldest_timestamp_ms": 5_000},
        "task": {"oldest_timestamp_ms": None},
    }

    assert 15.0 == lag_seconds(sections, 20.0)
    assert 0.0 == lag_seconds(sections, 1.0)
    assert 0.0 == lag_seconds({}, 20.0)


def test_what_is_not_there_has_no_age() -> None:
    """Before the first learned version and the first checkpoint."""
    assert {
        "lag_seconds": 0.0,
        "freshness_seconds": None,
        "teacher_age_seconds": None,
        "checkpoint_age_seconds": None,
    } == ages({}, 100.0)


def test_what_is_served_ages_from_its_events_and_from_its_writing() -> None:
    """Freshness counts from the newest event, the teacher's age from when it was made."""
    sections = {
        "teacher": {"newest_event_ms": 40_000, "created_at": "1970-01-01T00:01:00+00:00"},
        "checkpoint": {"at": "1970-01-01T00:01:30.000+00:00"},
    }

    found = ages(sections, 100.0)

    assert (60.0, 40.0) == (found["freshness_seconds"], found["teacher_age_seconds"])
    assert pytest.approx(10.0) == found["checkpoint_age_seconds"]
    assert seconds_since(None, 100.0) is None
