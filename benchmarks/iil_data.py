"""The data of benchmarks/iil.py, and how an order deals it out (method.md, 1)."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from teacherd.daemon.dataset import Dataset, build_dataset
from teacherd.daemon.demo_stream import stratified_order
from teacherd.daemon.named_datasets import load_torchvision

Split = Literal["test", "validation"]

TORCHVISION_NAMES = {"fashion_mnist": "FashionMNIST", "cifar100": "CIFAR100"}
_NUM_TRAIN = {"fashion_mnist": 60_000, "cifar100": 50_000}
_VALIDATION_PARTS = 6
_VALIDATION_SEED = 20_240_603  # the same instances for every order: nothing ever learns from them


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A data set as published: what may be learned and what may only be measured with."""

    train: Dataset
    test: Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """One order of the data."""

    base: Dataset
    """D(0)."""
    tasks: tuple[Dataset, ...]
    """D(1), D(2), ... in their order."""
    test: Dataset
    """Learned by nobody: the published test set, or the validation part of the training set."""

    @property
    def seen(self) -> Dataset:
        """All that has been learned from in the end: base and tasks."""
        parts = (self.base, *self.tasks)
        return replace(
            self.base,
            inputs=np.concatenate([part.inputs for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
        )


def load_corpus(name: str, folder: Path) -> Corpus:
    """Return a data set from a folder's own reader, its .npz, or torchvision's files there.

    Args:
        name: A key of TORCHVISION_NAMES.
        folder: Holds `load_data.py`, or `NAME.npz` of train_images, train_labels, test_images and
            test_labels; else torchvision downloads the data set into it.
    """
    reader, archive = folder / "load_data.py", folder / f"{name}.npz"
    if reader.is_file():
        arrays = getattr(_import_file(reader), name)()
    elif archive.is_file():
        with np.load(archive) as file:
            arrays = dict(file)
    else:
        whole = load_torchvision(TORCHVISION_NAMES[name], root=folder)
        places = np.arange(len(whole))
        num_train = _NUM_TRAIN[name]
        return Corpus(train=whole.take(places[:num_train]), test=whole.take(places[num_train:]))
    num_classes = int(arrays["train_labels"].max()) + 1
    classes = tuple(map(str, range(num_classes)))
    train, test = (
        build_dataset(name, arrays[f"{part}_images"], arrays[f"{part}_labels"], classes)
        for part in ("train", "test")
    )
    return Corpus(train=train, test=test)


def deal(
    corpus: Corpus,
    *,
    order: int,
    split: Split,
    num_base: int,
    num_tasks: int,
    task_instances: int,
) -> Course:
    """Deal a data set out for one order: what is base and what comes when is drawn anew.

    The base has the classes in their shares (O); within the stream the order is random, so that
    tasks vary as those of a stream do.

    Args:
        corpus: What is dealt out.
        order: Seed of the order.
        split: What the course is measured with. `validation` takes a sixth of the training set out
            first, for choosing settings, and leaves the test set alone; base and tasks shrink in
            proportion where that leaves too little.
        num_base: Instances of the base.
        num_tasks: Number of tasks.
        task_instances: Instances of each.

    Raises:
        ValueError: There is too little.
    """
    train, test = corpus.train, corpus.test
    if split == "validation":
        places = stratified_order(train.labels, np.random.default_rng(_VALIDATION_SEED))
        num_held_out = len(train) // _VALIDATION_PARTS
        test, train = train.take(places[:num_held_out]), train.take(places[num_held_out:])
        share = min(1.0, len(train) / (num_base + num_tasks * task_instances))
        num_base, task_instances = int(num_base * share), int(task_instances * share)
    num_wanted = num_base + num_tasks * task_instances
    if num_wanted > len(train):
        raise ValueError(
            f"--num-tasks, --task-instances: {num_tasks} x {task_instances} and a base of "
            f"{num_base} are more than the {len(train)} instances there are; take fewer"
        )
    rng = np.random.default_rng(order)
    places = stratified_order(train.labels, rng)[:num_wanted]
    stream = rng.permutation(places[num_base:]).reshape(num_tasks, task_instances)
    return Course(
        base=train.take(places[:num_base]),
        tasks=tuple(train.take(each) for each in stream),
        test=test,
    )


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "it is a .py file"
    assert spec.loader is not None, "it is a .py file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
