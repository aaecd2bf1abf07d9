"""Networks of a few parameters and data of a few instances, for tests of learning."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Task

NUM_CLASSES = 3
IMAGE_SHAPE = (1, 6, 6)
NUM_FEATURES = 4

IMAGE_PREPROCESSING = Preprocessing(mean=(0.5,), std=(0.3,), scale=1 / 255)
FEATURE_PREPROCESSING = Preprocessing(
    mean=(0.0,) * NUM_FEATURES, std=(1.0,) * NUM_FEATURES, scale=1
)


class TinyCnn(nn.Module):
    """A convolution with BatchNorm and a linear head: every kind of tensor that matters."""

    def __init__(self, *, num_channels: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, num_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(num_channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_channels * 4, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, 3] for images [B, 1, 6, 6]."""
        maps = nn.functional.relu(self.norm(self.convolution(inputs)))
        pooled = nn.functional.avg_pool2d(maps, 3).flatten(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def build_tiny_cnn(seed: int = 0, *, dropout: float = 0.0) -> TinyCnn:
    """Return a seeded TinyCnn whose BatchNorm has statistics worth averaging."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TinyCnn(dropout=dropout)
        nn.init.uniform_(network.norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(network.norm.running_var, 0.5, 1.5)
        return network


def build_tiny_linear(seed: int = 0) -> nn.Linear:
    """Return a seeded linear classifier of feature vectors [B, 4]: convex, so it surely learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(NUM_FEATURES, NUM_CLASSES)


def image_task(num_instances: int = 10, *, number: int = 1, seed: int = 0) -> Task:
    """Return a task of images that are brighter the higher their class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, num_instances)
    noise = rng.integers(0, 100, (num_instances, *IMAGE_SHAPE))
    inputs: npt.NDArray[np.uint8] = (noise + 70 * labels[:, None, None, None]).astype(np.uint8)
    return Task(number=number, inputs=inputs, labels=labels)


def feature_task(num_instances: int = 10, *, number: int = 1, seed: int = 0) -> Task:
    """Return a task of feature vectors whose largest of the first three is their class."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((num_instances, NUM_FEATURES)).astype(np.float32)
    return Task(number=number, inputs=inputs, labels=inputs[:, :NUM_CLASSES].argmax(axis=1))
