"""Measuring a network on labelled instances, by forward passes only.

Legend: N instances, B batch, K classes.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teacherd.models.preprocessing import Preprocessing

_UNKNOWN = -100
"""What cross-entropy passes over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """How a network does on a set of instances."""

    num_instances: int
    """How many there were."""
    accuracy: float
    """Share of them that is classified correctly."""
    loss: float
    """Mean cross-entropy, in nats, of the instances of classes that the network knows; NaN where
    there are none."""
    per_class_accuracy: tuple[float | None, ...]
    """Share classified correctly by class of the label; None where a class has no instance."""
    correct: npt.NDArray[np.bool_]
    """Whether each instance is classified correctly, [N]."""
    confidence: npt.NDArray[np.float32]
    """Probability that the network gives to the class it chose, [N]."""


def evaluate(
    network: nn.Module,
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    num_new_classes: int = 0,
    batch_size: int = 256,
    on_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Measure a network in eval mode, in float32; leaves it in the mode it was in.

    Args:
        network: Lies on the device.
        inputs: Raw inputs, at least one.
        labels: Class indices [N].
        preprocessing: As the network was trained with.
        device: Where to compute.
        num_new_classes: Labels may be of so many classes behind the network's; it answers them
            wrongly.
        batch_size: Instances per forward pass.
        on_batch: Called after each forward pass.

    Raises:
        ValueError: There are no instances, or a label is none of the network's classes.
    """
    if not len(labels):
        raise ValueError("inputs: no instance: nothing can be measured; give at least one")
    raw, labels_N = as_tensor(inputs), as_tensor(labels)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    correct: list[Tensor] = []
    confidence: list[Tensor] = []
    num_classes = 0
    with evaluation_mode(network):
        for start in range(0, len(labels), batch_size):
            batch = raw[start : start + batch_size].to(device)
            labels_B = labels_N[start : start + batch_size]
            logits_BK = network(preprocessing.apply(batch)).float()
            num_classes = logits_BK.shape[1]
            check_labels(labels_B, num_classes + num_new_classes)
            labels_B = labels_B.to(device)
            # What is no class of the network has no loss.
            known_B = torch.where(labels_B < num_classes, labels_B, _UNKNOWN)
            loss += F.cross_entropy(logits_BK, known_B, reduction="sum", ignore_index=_UNKNOWN)
            correct.append(logits_BK.argmax(dim=1) == labels_B)
            confidence.append(logits_BK.softmax(dim=1).amax(dim=1))
            on_batch()
    correct_N = torch.cat(correct).cpu()
    num_known = int((labels_N < num_classes).sum())
    return Evaluation(
        num_instances=len(labels),
        accuracy=float(correct_N.double().mean()),
        loss=float(loss) / num_known if num_known else math.nan,
        per_class_accuracy=_accuracy_by_class(correct_N, labels_N, num_classes + num_new_classes),
        correct=correct_N.numpy(),
        confidence=torch.cat(confidence).cpu().numpy(),
    )


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode without gradients; give each of its modules its mode back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        # Not inference mode: what a network caches inside could not be trained on afterwards.
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels that are none of the classes: CUDA would only say that an assert failed.

    Raises:
        ValueError: Names the first such label.
    """
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f"labels: {int(outside[0])}: the network knows classes 0 to {num_classes - 1}; "
            "reject such instances"
        )


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return an array as a tensor on the CPU; copies it only where it cannot be written to."""
    return torch.from_numpy(np.require(array, requirements=("C", "W")))


def _accuracy_by_class(
    correct_N: Tensor, labels_N: Tensor, num_classes: int
) -> tuple[float | None, ...]:
    totals = torch.bincount(labels_N, minlength=num_classes).tolist()
    hits = torch.bincount(labels_N[correct_N], minlength=num_classes).tolist()
    return tuple(hit / total if total else None for hit, total in zip(hits, totals, strict=True))
