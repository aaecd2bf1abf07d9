"""Tests of how the demo deals a data set out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from teacherd.daemon.dataset import Dataset, DatasetError, build_dataset
from teacherd.daemon.demo_drift import DriftConfig, rotate_images
from teacherd.daemon.demo_stream import NUM_TASKS, build_demo_stream, stratified_order
from teacherd.daemon.named_datasets import load_digits

DRIFT = DriftConfig(angle_degrees=90)  # exact, so that instances can be recognised


def recognisable(num_instances: int) -> Dataset:
    """Make instances that are all different, also turned, in three classes of different size."""
    places = np.arange(num_instances)
    images = np.zeros((num_instances, 1, 3, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 1] = places % 251, places // 251
    return build_dataset("places", images, np.minimum(places % 5, 2))


def places_of(images: np.ndarray) -> list[int]:
    """Return which instances of `recognisable` these are."""
    return (images[:, 0, 0, 0] + 251 * images[:, 0, 1, 1].astype(int)).tolist()


def test_every_instance_is_dealt_once() -> None:
    """Base, held-out and stream share nothing, and of a small data set nothing is left over."""
    dataset = recognisable(180)
    dealt = build_demo_stream(dataset, drift=DRIFT, seed=3)
    first, second = dealt.stream.inputs[: dealt.drift_at], dealt.stream.inputs[dealt.drift_at :]

    base, held_out = places_of(dealt.base.inputs), places_of(dealt.held_out["plain"].inputs)
    stream = places_of(first) + places_of(np.rot90(second, k=-1, axes=(2, 3)))
    assert sorted(base + held_out + stream) == list(range(180))
    assert (60, 80, 40) == (len(base), len(stream), len(held_out))
    assert (10, 40) == (dealt.task_instances, dealt.drift_at)


def test_labels_stay_with_their_instances() -> None:
    """Dealing and drifting never part an image from its label."""
    dataset = recognisable(200)
    dealt = build_demo_stream(dataset, drift=DRIFT, seed=4)

    plain = [dealt.base, dealt.held_out["plain"], dealt.stream.take(np.arange(dealt.drift_at))]
    turned = [dealt.held_out["drifted"], dealt.stream.take(np.arange(dealt.drift_at, 88))]
    for part in plain:
        assert_array_equal(dataset.labels[places_of(part.inputs)], part.labels)
    for part in turned:
        back = np.rot90(part.inputs, k=-1, axes=(2, 3))
        assert_array_equal(dataset.labels[places_of(back)], part.labels)


def test_the_drifted_held_out_set_is_the_plain_one_drifted() -> None:
    """A difference between the two is the drift's, not that of other instances."""
    dealt = build_demo_stream(recognisable(200), drift=DRIFT, seed=5)
    plain, drifted = dealt.held_out["plain"], dealt.held_out["drifted"]

    assert_array_equal(rotate_images(plain.inputs, 90), drifted.inputs)
    assert_array_equal(plain.labels, drifted.labels)


def test_a_seed_decides_everything() -> None:
    """The same seed deals the same, another one otherwise."""
    dataset = recognisable(200)
    one, same, other = (build_demo_stream(dataset, drift=DRIFT, seed=s) for s in (1, 1, 2))

    assert_array_equal(one.stream.inputs, same.stream.inputs)
    assert_array_equal(one.base.inputs, same.base.inputs)
    assert not np.array_equal(one.stream.inputs, other.stream.inputs)
    assert not np.array_equal(one.base.inputs, other.base.inputs)


def test_the_digits_are_dealt_as_documented() -> None:
    """600 for the base, eight tasks of 100, 397 held out, the second four tasks drifted."""
    dealt = build_demo_stream(load_digits(), drift=DriftConfig(), seed=0)

    assert (600, 800, 397) == (len(dealt.base), len(dealt.stream), len(dealt.held_out["plain"]))
    assert (100, 400) == (dealt.task_instances, dealt.drift_at)


def test_a_large_data_set_is_not_used_up() -> None:
    """A demo takes minutes, however much data there is."""
    dealt = build_demo_stream(recognisable(60_000), drift=DRIFT, seed=0)

    assert (1500, 1000) == (len(dealt.base), len(dealt.held_out["plain"]))
    assert len(dealt.stream) == NUM_TASKS * 250


def test_too_little_data_is_refused() -> None:
    """The error says how much is there and how much is needed."""
    with pytest.raises(DatasetError, match="has 150 instances; a demo needs 180 or more"):
        build_demo_stream(recognisable(150), drift=DRIFT, seed=0)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_every_stretch_has_the_shares_of_the_whole(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    """In any stretch of the order a class has its share, up to the rounding of the others."""
    labels = np.repeat(np.arange(len(counts)), counts)
    order = stratified_order(labels, np.random.default_rng(seed))
    start = data.draw(st.integers(0, len(labels)))
    stop = data.draw(st.integers(start, len(labels)))

    assert_array_equal(np.arange(len(labels)), np.sort(order))
    stretch = np.bincount(labels[order[start:stop]], minlength=len(counts))
    shares = (stop - start) * np.array(counts) / len(labels)
    # Each class is off by one at most for a given interval, and the interval by one per class.
    assert (np.abs(stretch - shares) <= len(counts) + 1).all()
