"""From where a version can be replayed: kept weights, and the records of every task since."""

import pytest
from short_logs import ENTRIES, task

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import Rollback, Skip
from teacherd.daemon.reachability import replay_starts


@pytest.mark.parametrize(
    ("earliest", "kept", "expected"),
    [
        # All records are there: from version 0 on.
        ((0, 0), {0, 1, 2, 3}, {0: None, 1: 0, 2: 0, 3: 0}),
        # The first task's are gone; version 1 is kept, then it is not.
        ((5, 0), {0, 1, 2, 3}, {0: None, 1: None, 2: 1, 3: 1}),
        ((5, 0), {0, 2, 3}, {0: None, 1: None, 2: None, 3: 2}),
        # One of two partitions is enough; the held task's records are not needed.
        ((9, 2), {0, 1, 2, 3}, {0: None, 1: None, 2: None, 3: 2}),
        ((99, 99), {0, 1, 2, 3}, {0: None, 1: None, 2: None, 3: None}),
        # Without version 0 nothing begins, though every record is there.
        ((0, 0), set(), {0: None, 1: None, 2: None, 3: None}),
    ],
)
def test_a_version_is_replayed_from_the_oldest_one_possible(
    earliest: tuple[int, int], kept: set[int], expected: dict[int, int | None]
) -> None:
    """The start is kept, and every accepted task after it has its records."""
    first = {Partition("t", number): offset for number, offset in enumerate(earliest)}

    assert expected == replay_starts(ENTRIES, earliest=first, is_kept=kept.__contains__)


def test_a_partition_that_is_gone_has_no_records() -> None:
    """A topic that was made anew with fewer partitions, say."""
    starts = replay_starts(ENTRIES, earliest={Partition("t", 0): 0}, is_kept=lambda _: True)

    assert {0: None, 1: 0, 2: None, 3: None} == starts


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        # Cut back to 6: what the second task read of partition 0 is there no more.
        (6, {0: None, 1: 0, 2: None, 3: 2}),
        # Made anew.
        (0, {0: None, 1: None, 2: None, 3: 2}),
    ],
)
def test_a_log_that_was_made_anew_holds_other_records(
    cut: int, expected: dict[int, int | None]
) -> None:
    """Though it has records at these offsets."""
    skip = Skip(topic="t", partition=0, start=9, end=cut, reason="made anew")
    earliest = {Partition("t", 0): 0, Partition("t", 1): 0}
    starts = replay_starts([*ENTRIES, skip], earliest=earliest, is_kept=lambda _: True)

    assert expected == starts


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({0, 1, 2, 3, 4}, {4: 2, 5: 2}),
        ({0, 2, 3, 4}, {4: None, 5: 4}),
        ({0, 2, 3}, {4: None, 5: None}),
    ],
)
def test_a_rollback_needs_the_weights_that_it_goes_back_to(
    kept: set[int], expected: dict[int, int | None]
) -> None:
    """Kept, or made again on the way: else the next start is what it made."""
    entries = [
        *ENTRIES,
        Rollback(version=4, to=1, sha256="0", cause="request"),
        *task(5, 4, (1, 8, 9)),
    ]
    earliest = {Partition("t", 0): 9, Partition("t", 1): 4}
    starts = replay_starts(entries, earliest=earliest, is_kept=kept.__contains__)

    assert {0: None, 1: None, 2: None, 3: 2, **expected} == starts
