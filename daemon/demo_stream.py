"""The demo's course: which instances the base model gets, what is held out, what streams when."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from teacherd.daemon.dataset import Dataset, DatasetError
from teacherd.daemon.demo_drift import DriftConfig, build_drift

NUM_TASKS = 8
PARTS = 18  # 6 for the base, 8 streamed, 4 held out
BASE_PARTS = 6
HELD_OUT_PARTS = 4
MAX_TASK_INSTANCES = 250  # the demo of a large data set takes minutes, too
MIN_TASK_INSTANCES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoStream:
    """A data set, dealt out."""

    base: Dataset
    """What the base model is trained on, D(0)."""
    held_out: Mapping[str, Dataset]
    """`plain` and `drifted`: the same instances, never trained on, before and after the drift."""
    stream: Dataset
    """In the order in which it is produced, drifted from `drift_at` on."""
    drift_at: int
    """Place in the stream of the first drifted instance: half its length."""
    task_instances: int
    """Instances of each of the NUM_TASKS tasks."""
    num_old_classes: int | None = None
    """Of the classes, how many the base model gets; None: all of them."""

    @property
    def base_classes(self) -> tuple[str, ...]:
        """The classes that the base model gets."""
        return self.base.classes[: self.num_old_classes]


def build_demo_stream(dataset: Dataset, *, drift: DriftConfig, seed: int) -> DemoStream:
    """Deal a data set out by its classes' shares, and let the second half of the stream drift.

    A task is an eighteenth of the data (250 instances at most), the base has six times that, the
    stream eight times, and what remains, up to four times, is held out.

    Raises:
        DatasetError: There is too little to deal out, or it cannot drift so.
    """
    task_instances = min(round(len(dataset) / PARTS), MAX_TASK_INSTANCES)
    if task_instances < MIN_TASK_INSTANCES:
        raise DatasetError(
            dataset.name,
            f"has {len(dataset)} instances; a demo needs {PARTS * MIN_TASK_INSTANCES} or more",
            "take a larger one",
        )
    rng = np.random.default_rng(seed)
    order = stratified_order(dataset.labels, rng)
    cuts = np.cumsum([BASE_PARTS * task_instances, NUM_TASKS * task_instances])
    base, stream, rest = (dataset.take(places) for places in np.split(order, cuts))
    plain = rest.take(np.arange(min(len(rest), HELD_OUT_PARTS * task_instances)))
    change = build_drift(drift, base=base, rng=rng)
    drift_at = len(stream) // 2
    # What is in its order is stratified: shuffled, so that tasks vary as those of a stream do.
    stream = stream.take(
        np.concatenate(
            [rng.permutation(drift_at), drift_at + rng.permutation(len(stream) - drift_at)]
        )
    )
    inputs = np.concatenate([stream.inputs[:drift_at], change(stream.inputs[drift_at:])])
    return DemoStream(
        base=base,
        held_out={"plain": plain, "drifted": replace(plain, inputs=change(plain.inputs))},
        stream=replace(stream, inputs=inputs),
        drift_at=drift_at,
        task_instances=task_instances,
    )


def stratified_order(
    labels: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return a random order whose every stretch has the classes in the shares of the whole.

    The instances of a class, shuffled, are laid out evenly over [0, 1), from a random start.
    """
    positions = np.empty(len(labels))
    for label in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        positions[places] = (np.arange(len(places)) + rng.random()) / len(places)
    return np.argsort(positions, kind="stable")
