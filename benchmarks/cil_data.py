"""How benchmarks/cil.py deals a data set out: classes that come one increment after the other."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from course_data import Corpus, Course, Split

from teacherd.daemon.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class ClassCourse(Course):
    """One order of the classes; labels are their places in it, each part has its own."""

    increments: tuple[int, ...]
    """Classes of each part."""

    @property
    def num_base_classes(self) -> int:
        """Classes of the first part."""
        return self.increments[0]

    @property
    def num_classes(self) -> int:
        """Classes of all parts."""
        return sum(self.increments)

    def classes(self, increment: int) -> range:
        """Return the labels of an increment."""
        start = sum(self.increments[:increment])
        return range(start, start + self.increments[increment])

    def test_of(self, increment: int) -> Dataset:
        """Return the test instances of an increment's classes."""
        return _of_classes(self.test, self.classes(increment))


def deal_classes(
    corpus: Corpus,
    *,
    order: int,
    split: Split,
    increments: tuple[int, ...],
    per_class: int | None,
) -> ClassCourse:
    """Deal a data set out for one order of its classes.

    Args:
        corpus: What is dealt out.
        order: Seed of the order of the classes, and of which of their instances are taken.
        split: What is measured with; `validation` takes a sixth of the training set out first.
        increments: Classes of each increment, base first; the rest of the classes is left out.
        per_class: Instances of each class to learn from; None: all.

    Raises:
        ValueError: There are too few classes.
    """
    taken = corpus.take(split)
    train, test = taken.train, taken.test
    num_classes = len(train.classes)
    if sum(increments) > num_classes:
        raise ValueError(f"increments: {increments}: more than the {num_classes} classes there are")
    rng = np.random.default_rng(order)
    permuted = rng.permutation(num_classes)
    place_of = np.empty(num_classes, dtype=np.int64)
    place_of[permuted] = np.arange(num_classes)
    names = tuple(train.classes[each] for each in permuted)
    train, test = (
        replace(each, labels=place_of[each.labels], classes=names) for each in (train, test)
    )
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(train.labels == label))[:per_class]
            for label in range(sum(increments))
        ]
    )
    train = train.take(rng.permutation(chosen))
    edges = np.cumsum((0, *increments))
    return ClassCourse(
        increments=increments,
        parts=tuple(
            _of_classes(train, range(start, end)) for start, end in itertools.pairwise(edges)
        ),
        test=_of_classes(test, range(sum(increments))),
    )


def _of_classes(dataset: Dataset, classes: range) -> Dataset:
    return dataset.take(np.flatnonzero(np.isin(dataset.labels, np.array(classes))))
