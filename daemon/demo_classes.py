"""The demo's course with new classes: base model and half of the stream know nothing of them."""

import numpy as np
import numpy.typing as npt

from teacherd.daemon.dataset import Dataset, DatasetError
from teacherd.daemon.demo_stream import (
    BASE_PARTS,
    HELD_OUT_PARTS,
    MAX_TASK_INSTANCES,
    MIN_TASK_INSTANCES,
    NUM_TASKS,
    PARTS,
    DemoStream,
    stratified_order,
)

_NEW_SHARE = 0.4
"""Of the second half of the stream: what is new comes often."""
MIN_INSTANCES_PER_TASK = 0.25
"""A label that has so many records, as a share of a task, is a class: of two new classes those of
the first task wait for the second."""
_MIN_OLD = 2


def describe_new_classes(number: int) -> str:
    """Return in words what the stream is from its second half on."""
    return f"joined by {number} new class{'es' if number > 1 else ''}"


def build_new_classes_stream(dataset: Dataset, *, number: int, seed: int) -> DemoStream:
    """Deal a data set out so that its last classes come in the second half of the stream only.

    The parts are those of `build_demo_stream`, counted in instances of the old classes. `drifted`
    of the held-out sets has all classes, `plain` the old ones.

    Raises:
        DatasetError: There is too little to deal out, or too few classes.
    """
    num_old = len(dataset.classes) - number
    if num_old < _MIN_OLD:
        raise DatasetError(
            dataset.name,
            f"has {len(dataset.classes)} classes; a base model needs {_MIN_OLD} of them",
            "take fewer --new-classes",
        )
    rng = np.random.default_rng(seed)
    order = stratified_order(dataset.labels, rng)
    is_old = dataset.labels[order] < num_old
    old, new = order[is_old], order[~is_old]
    size = min(round(len(old) / PARTS), MAX_TASK_INSTANCES)
    half = NUM_TASKS // 2 * size
    num_new = round(half * _NEW_SHARE)
    if size < MIN_TASK_INSTANCES or len(new) <= num_new:
        raise DatasetError(
            dataset.name,
            f"has {len(old)} instances of old and {len(new)} of new classes; "
            f"{PARTS * MIN_TASK_INSTANCES} old ones and {num_new + 1} new ones are needed",
            "take a larger one, or other --new-classes",
        )
    base, first, second, rest = np.split(old, np.cumsum([BASE_PARTS * size, half, half - num_new]))
    plain = rest[: HELD_OUT_PARTS * size]
    held_out_new = new[num_new:][: round(len(plain) * number / num_old)]
    stream = np.concatenate([rng.permutation(first), _mixed(second, new[:num_new], rng)])
    return DemoStream(
        base=dataset.take(base),
        held_out={
            "plain": dataset.take(plain),
            "drifted": dataset.take(np.concatenate([plain, held_out_new])),
        },
        stream=dataset.take(stream),
        drift_at=half,
        task_instances=size,
        num_old_classes=num_old,
    )


def _mixed(
    old: npt.NDArray[np.int64], new: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    mixed: npt.NDArray[np.int64] = rng.permutation(np.concatenate([old, new]))
    return mixed
