"""The digits in the form in which a data set is published, for benchmarks that read such files."""

from pathlib import Path

import numpy as np

from teacherd.daemon.named_datasets import load_digits

_NUM_TRAIN = 1400


def publish_digits(folder: Path) -> Path:
    """Write the digits as if they were Fashion-MNIST into a folder; return it."""
    digits = load_digits()
    np.savez(
        folder / "fashion_mnist.npz",
        train_images=digits.inputs[:_NUM_TRAIN],
        train_labels=digits.labels[:_NUM_TRAIN],
        test_images=digits.inputs[_NUM_TRAIN:],
        test_labels=digits.labels[_NUM_TRAIN:],
    )
    return folder
