"""Base models for tests: one trained on real data in a second or two, one of a few weights."""

from pathlib import Path

import numpy as np
import torch

from teacherd.daemon.base_model import write_base
from teacherd.daemon.base_training import train_base
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.demo_stream import stratified_order
from teacherd.daemon.named_datasets import load_digits
from teacherd.daemon.pretraining import PretrainConfig
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.design import Design
from teacherd.models.preprocessing import Preprocessing

NUM_BASE_INSTANCES = 300
"""Few, so that there is something left to learn."""
NUM_FEATURES = 4
CLASSES = ("cat", "dog", "owl")


def digits() -> Dataset:
    """Return scikit-learn's 1797 digits in an order whose every stretch has all classes."""
    dataset = load_digits()
    return dataset.take(stratified_order(dataset.labels, np.random.default_rng(0)))


def digits_base(directory: Path) -> Path:
    """Make `base` below a directory: a small_cnn that has learned the first of `digits()`."""
    dataset = digits()
    cut = NUM_BASE_INSTANCES
    train_base(
        dataset.take(np.arange(cut)),
        held_out=dataset.take(np.arange(len(dataset) - cut, len(dataset))),
        network="small_cnn",
        arguments={"width": 6},
        config=PretrainConfig(epochs=8, learning_rate=0.01),
        seed=0,
        device=torch.device("cpu"),
        out=directory / "base",
        on_epoch=lambda _epoch: None,
    )
    return directory / "base"


def untrained_base(
    directory: Path,
    *,
    name: str = "base",
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    width: int = 4,
    depth: int = 1,
    class_means: bool = False,
) -> Path:
    """Make a base model of four features below a directory; the seed is its identity."""
    architecture = BackboneConfig(
        name="mlp",
        input_shape=(NUM_FEATURES,),
        arguments={"width": width, "depth": depth},
        class_means=class_means,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone(architecture, num_classes=len(classes))
    write_base(
        directory / name,
        network,
        Design(
            architecture=architecture,
            classes=classes,
            preprocessing=Preprocessing(
                mean=(0.0,) * NUM_FEATURES, std=(1.0,) * NUM_FEATURES, scale=1
            ),
        ),
        metrics={},
    )
    return directory / name
