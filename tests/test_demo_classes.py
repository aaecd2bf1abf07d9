"""The demo's course with new classes: what is dealt where, and when a class first comes."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from teacherd.daemon.dataset import DatasetError, build_dataset
from teacherd.daemon.demo_classes import build_new_classes_stream, describe_new_classes
from teacherd.daemon.demo_stream import NUM_TASKS
from teacherd.daemon.named_datasets import load_digits


def test_new_classes_come_in_the_second_half_only() -> None:
    """The base model never sees them; then they are two fifths of what comes."""
    dealt = build_new_classes_stream(load_digits(), number=2, seed=0)
    first, second = dealt.stream.labels[: dealt.drift_at], dealt.stream.labels[dealt.drift_at :]

    assert dealt.base.labels.max() == 7 == first.max()
    assert {8, 9} < set(second.tolist())
    assert 0.4 == pytest.approx((second > 7).mean())
    assert NUM_TASKS * dealt.task_instances == len(dealt.stream) == 2 * dealt.drift_at
    assert tuple("01234567") == dealt.base_classes


def test_held_out_are_old_classes_and_all_classes() -> None:
    """`plain` is the old part of `drifted`, which has each class as often as another."""
    held_out = build_new_classes_stream(load_digits(), number=2, seed=0).held_out
    plain, every = held_out["plain"], held_out["drifted"]
    counts = np.bincount(every.labels, minlength=10)

    assert plain.labels.max() == 7
    assert_array_equal(plain.inputs, every.inputs[: len(plain)])
    assert counts.max() - counts.min() <= 3


def test_nothing_is_dealt_twice() -> None:
    """Base, stream and held-out instances are different ones."""
    places = np.arange(3000)
    images = np.zeros((3000, 1, 3, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 1] = places % 251, places // 251
    dealt = build_new_classes_stream(build_dataset("x", images, places % 5), number=1, seed=1)
    parts = (dealt.base, dealt.stream, dealt.held_out["drifted"])
    seen = np.concatenate([part.inputs for part in parts]).reshape(-1, 9)

    assert len(seen) == len(np.unique(seen, axis=0))


@pytest.mark.parametrize(("number", "told"), [(9, "needs 2 of them"), (8, "old and")])
def test_too_many_new_classes_are_refused(number: int, told: str) -> None:
    """A base model of one class is none, and of two there are too few instances."""
    with pytest.raises(DatasetError, match=told):
        build_new_classes_stream(load_digits().take(np.arange(300)), number=number, seed=0)


def test_it_is_told_in_words() -> None:
    """As the report and the screen say it."""
    assert "joined by 1 new class" == describe_new_classes(1)
    assert "joined by 2 new classes" == describe_new_classes(2)
