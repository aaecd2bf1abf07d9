"""The base model of benchmarks that run a whole daemon: small, trained in seconds."""

from pathlib import Path

import numpy as np
import torch

from teacherd.daemon.base_training import train_base
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.pretraining import PretrainConfig


def train_small_base(directory: Path, digits: Dataset) -> None:
    """Make a small base model in the folder `base` of a directory."""
    train_base(
        digits,
        held_out=digits.take(np.arange(0)),
        network="small_cnn",
        arguments={"width": 6},
        config=PretrainConfig(epochs=2),
        seed=0,
        device=torch.device("cpu"),
        out=directory / "base",
        on_epoch=lambda _epoch: None,
    )
