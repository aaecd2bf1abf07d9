"""What is held out: by a hash that nobody can influence, the same for all time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.record import Partition
from teacherd.daemon.holdout_split import Instances, build_holdout, hold_out, split
from teacherd.daemon.range_words import closed_range
from teacherd.daemon.standing import HeldOut

CLASSES = tuple("abcde")


def make_task(num: int, *, ids: tuple[bytes | None, ...] = (), partitions: int = 1) -> BufferedTask:
    """Return a task of numbered instances, spread evenly over partitions."""
    places = np.sort(np.arange(num) % partitions)
    ranges = tuple(
        PlannedRange(
            partition=Partition("t", number), start=0, end=num, count=num, digest="d", rejected=()
        )
        for number in range(partitions)
    )
    return BufferedTask(
        cause="count",
        ranges=ranges,
        inputs=np.arange(num, dtype=np.float32)[:, None],
        labels=np.arange(num) % 5,
        partitions=places,
        offsets=np.arange(num),
        ids=ids or (None,) * num,
        event_times_ms=np.arange(num),
    )


def held_out(task: BufferedTask, share: float) -> list[tuple[int, ...]]:
    """Return the offsets held out of each range."""
    closed = hold_out(task, [closed_range(each) for each in task.ranges], share)
    return [each.held_out for each in closed]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_about_the_configured_share_is_held_out(share: float) -> None:
    """Within what chance allows for 20,000 instances."""
    (offsets,) = held_out(make_task(20_000), share)

    assert len(offsets) / 20_000 == pytest.approx(share, abs=0.012)


def test_nothing_is_held_out_of_a_share_of_none() -> None:
    """And no range says so."""
    assert [()] == held_out(make_task(100), 0.0)


def test_the_choice_is_frozen() -> None:
    """It must never change: instances would cross over from one side to the other."""
    (offsets,) = held_out(make_task(100), 0.1)

    assert (12, 16, 32, 93, 98) == offsets


def test_an_id_decides_wherever_it_comes_again() -> None:
    """Copies of one picture stand on the same side."""
    ids = tuple(f"picture-{number % 10}".encode() for number in range(200))
    (offsets,) = held_out(make_task(200, ids=ids), 0.3)

    assert offsets
    assert {offset % 10 for offset in offsets} == {
        number for number in range(10) if number in offsets
    }
    assert len(offsets) == 20 * len({offset % 10 for offset in offsets})


def test_the_plan_says_what_is_learned() -> None:
    """Not the share of today: what was planned is split in the same way ever after."""
    task = make_task(60, partitions=3)
    ranges = hold_out(task, [closed_range(each) for each in task.ranges], 0.3)
    learned, kept = split(task, HeldOut(tuple(ranges)), CLASSES)

    assert 60 == len(learned.labels) + len(kept.labels)
    assert sum(len(each.held_out) for each in ranges) == len(kept.labels)
    assert set(np.concatenate([each.held_out for each in ranges])) == set(kept.inputs[:, 0])
    assert np.array_equal(np.sort(learned.inputs[:, 0]), learned.inputs[:, 0])


def test_a_plan_of_before_holdouts_learns_everything() -> None:
    """Logs of 0.1.0 read on."""
    task = make_task(10)
    where = HeldOut(tuple(closed_range(each) for each in task.ranges))
    learned, kept = split(task, where, CLASSES)

    assert (10, 0) == (len(learned.labels), len(kept.labels))


def instances(labels: list[int]) -> Instances:
    """Return instances of these classes."""
    num = len(labels)
    rng = np.random.default_rng(0)
    return Instances(
        np.arange(num, dtype=np.float32)[:, None],
        np.array(labels),
        np.arange(num),
        rng.integers(0, 1 << 62, num).astype(np.uint64),
        CLASSES,
    )


def test_few_are_kept_whole() -> None:
    """In the order of identities."""
    holdout = build_holdout(3, instances([0, 1, 1]), most=5, most_bytes=1000)

    assert [0, 1, 1] == holdout.labels.tolist()
    assert 3 == holdout.task


def test_of_many_as_many_are_kept_of_each_class_as_there_are() -> None:
    """A rare class stays whole, the others share the rest."""
    holdout = build_holdout(1, instances([0] * 90 + [1] * 50 + [2] * 3), most=23, most_bytes=10_000)

    assert [10, 10, 3] == np.bincount(holdout.labels).tolist()


def test_memory_bounds_them_too() -> None:
    """A hundred bytes are room for 25 features."""
    holdout = build_holdout(1, instances([0, 1] * 50), most=90, most_bytes=100)

    assert (25, 100) == (len(holdout.labels), holdout.inputs.nbytes)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(1, 40))
def test_no_class_has_two_more_than_another_that_had_enough(labels: list[int], most: int) -> None:
    """Balanced means: a class is smaller only because it has no more."""
    holdout = build_holdout(1, instances(labels), most=most, most_bytes=1 << 20)
    kept = np.bincount(holdout.labels, minlength=7)
    there = np.bincount(labels, minlength=7)

    assert min(most, len(labels)) == len(holdout.labels)
    assert all(
        kept[low] >= kept.max() - 1 or kept[low] == there[low] for low in range(7) if there[low]
    )
