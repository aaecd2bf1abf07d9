"""The data of benchmarks/iil.py and cil.py: data sets as published, and courses dealt of them."""

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

    def take(self, split: Split) -> "Corpus":
        """Return what to learn and measure with.

        Args:
            split: `validation` takes a sixth of the training set out to measure with, for choosing
                settings, and leaves the test set alone.
        """
        if split == "test":
            return self
        places = stratified_order(self.train.labels, np.random.default_rng(_VALIDATION_SEED))
        num_held_out = len(self.train) // _VALIDATION_PARTS
        return Corpus(
            train=self.train.take(places[num_held_out:]),
            test=self.train.take(places[:num_held_out]),
        )


@dataclass(frozen=True, kw_only=True)
class Course:
    """One order of the data."""

    parts: tuple[Dataset, ...]
    """What is learned from: the base, then the tasks in their order."""
    test: Dataset
    """Learned by nobody: the published test set, or the validation part of the training set."""

    @property
    def base(self) -> Dataset:
        """D(0)."""
        return self.parts[0]

    @property
    def tasks(self) -> tuple[Dataset, ...]:
        """D(1), D(2), ... in their order."""
        return self.parts[1:]

    @property
    def num_base_classes(self) -> int:
        """Classes that the base model knows."""
        return len(self.base.classes)

    @property
    def num_classes(self) -> int:
        """Classes that are known in the end."""
        return len(self.base.classes)

    @property
    def seen(self) -> Dataset:
        """All that has been learned from in the end: base and tasks."""
        return replace(
            self.base,
            inputs=np.concatenate([part.inputs for part in self.parts]),
            labels=np.concatenate([part.labels for part in self.parts]),
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


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "it is a .py file"
    assert spec.loader is not None, "it is a .py file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
