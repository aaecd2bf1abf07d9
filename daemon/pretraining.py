"""Trains a base model from scratch, for who has none to adopt; not part of the learning method."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teacherd.daemon.errors import TeacherdError
from teacherd.models.augmentation import AugmentationConfig, augment
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing


class DivergedError(TeacherdError):
    """The loss is no longer a number: no base model comes of this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """How a base model is trained: AdamW, a short linear warm-up, then a cosine down to 0."""

    epochs: int = 30
    """Passes over the data; 30 suffice a small network on some thousand instances."""
    batch_size: int = 64
    """Instances per step, about: an epoch is cut into batches of equal size."""
    learning_rate: float = 0.003
    """At its peak; small BatchNorm networks like it, large ones want 0.0003."""
    weight_decay: float = 0.05
    """AdamW's, decoupled from the gradient; its usual size."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """What is changed about images before they are learned; nothing by default."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 1; take 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: {self.learning_rate} is not above 0; take 0.003")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: {self.weight_decay} is not 0 or above; take 0.05")


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainEpoch:
    """What one pass over the data gave."""

    number: int
    """From 1 to `num_epochs`."""
    num_epochs: int
    loss: float
    """Mean cross-entropy over the pass, each instance as it was met."""
    accuracy: float
    """Of the same forward passes, so of the training data: 0 to 1."""


def pretrain(
    network: nn.Module,
    inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    config: PretrainConfig,
    preprocessing: Preprocessing,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[PretrainEpoch], None] | None = None,
) -> PretrainEpoch:
    """Train a network in place, leave it in eval mode, and return its last epoch.

    A seed gives the same weights again on the same CPU; the process's own random state is left as
    it was.

    Args:
        network: On `device`, as initialised by the caller.
        inputs: uint8 [N,C,H,W] or float32 [N,F].
        labels: [N].
        config: How long and how fast.
        preprocessing: Applied to each batch.
        seed: Decides the batches and the network's own draws, such as dropout.
        device: Where it happens.
        on_epoch: Told after each epoch.

    Raises:
        DivergedError: The loss is not finite; the weights are those before that step.
    """
    steps_per_epoch = num_batches(len(labels), config.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, _warm_up_and_cosine(config.epochs * steps_per_epoch)
    )
    placement = Placement(device=device)
    examples = _Examples(
        inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(labels),
        preprocessing=preprocessing,
        augmentation=config.augmentation,
        placement=placement,
        generator=torch.Generator(device).manual_seed(seed),
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network.train()
        for number in range(1, config.epochs + 1):
            total_loss, num_right = 0.0, 0
            for batch, targets in examples.batches(steps_per_epoch):
                with placement.autocast():
                    logits = network(batch).float()
                total_loss += _step(logits, targets, optimizer, number) * len(targets)
                scheduler.step()
                num_right += int((logits.argmax(1) == targets).sum())
            loss, accuracy = total_loss / len(labels), num_right / len(labels)
            epoch = PretrainEpoch(
                number=number, num_epochs=config.epochs, loss=loss, accuracy=accuracy
            )
            if on_epoch is not None:
                on_epoch(epoch)
    network.eval()
    return epoch


def num_batches(num_instances: int, batch_size: int) -> int:
    """Return into how many batches of equal size, nearest to the wanted one, instances are cut.

    Equal, because BatchNorm cannot take a last batch of one and is badly served by a small one.
    """
    return max(1, min(round(num_instances / batch_size), num_instances // 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examples:
    inputs: Tensor
    labels: Tensor
    preprocessing: Preprocessing
    augmentation: AugmentationConfig
    placement: Placement
    generator: torch.Generator
    """Draws the augmentation."""

    def batches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all instances once, in an order drawn anew, as normalised inputs and labels."""
        for places in torch.tensor_split(torch.randperm(len(self.labels)), count):
            raw = self.inputs[places].to(self.placement.device)
            batch = self.preprocessing.apply(augment(raw, self.augmentation, self.generator))
            yield self.placement.place_inputs(batch), self.labels[places].to(batch.device)


def _step(logits: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    loss = F.cross_entropy(logits, targets)
    value = loss.item()
    if not math.isfinite(value):
        raise DivergedError(f"the loss became {value} in epoch {epoch}; lower the learning rate")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    optimizer.step()
    return value


def _warm_up_and_cosine(num_steps: int) -> Callable[[int], float]:
    num_warm_up = max(1, num_steps // 20)
    num_cosine = max(1, num_steps - num_warm_up)

    def factor(step: int) -> float:
        if step < num_warm_up:
            return (step + 1) / num_warm_up
        return (1 + math.cos(math.pi * (step - num_warm_up) / num_cosine)) / 2

    return factor
