"""The mean embedding of each class, which a network carries beside its last layer.

Two buffers of the layer that makes the logits, so that they go wherever its weights go: into each
version, back with a rollback, through a replay. A mean is a statistic of all instances of a class;
none of these is kept. What it costs in privacy: docs/new-classes.md.

Legend: N instances, E embedding, K classes.
"""

from typing import Any

import torch
from torch import Tensor, nn

MEANS = "class_means"
"""Name of the buffer [K, E]; float32."""
COUNTS = "class_counts"
"""Name of the buffer [K] with the number of instances in each mean; 0: none, and no mean."""


def attach_class_means(network: nn.Module, *, num_classes: int) -> None:
    """Give a network's last linear layer room for the means; there are none yet.

    Args:
        network: Is changed.
        num_classes: Length of its logits.

    Raises:
        ValueError: It has no linear layer with a row for each class.
    """
    heads = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Linear) and layer.out_features == num_classes
    ]
    if not heads:
        raise ValueError(
            "class_means: true: there is no linear layer that makes the logits, and so no "
            "embedding; leave it out"
        )
    weight = heads[-1].weight
    means_KE = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
    counts_K = torch.zeros(num_classes, dtype=torch.int64, device=weight.device)
    heads[-1].register_buffer(MEANS, means_KE)
    heads[-1].register_buffer(COUNTS, counts_K)


def head_with_means(network: nn.Module) -> nn.Linear | None:
    """Return the layer that carries the means, None where the network carries none."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and MEANS in layer._buffers:  # noqa: SLF001 - no other way to ask
            return layer
    return None


def means_of(head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return a layer's means [K, E] and counts [K]; the layer's own tensors."""
    means_KE, counts_K = getattr(head, MEANS), getattr(head, COUNTS)
    return means_KE, counts_K


@torch.no_grad()
def add_to_means(head: nn.Linear, sums_KE: Tensor, counts_K: Tensor) -> None:
    """Let the means be those of more instances.

    Args:
        head: Its buffers are changed.
        sums_KE: Of the embeddings of each class.
        counts_K: How many embeddings that were.
    """
    means_KE, before_K = means_of(head)
    after_K = before_K + counts_K.to(before_K.device)
    # From the difference, so that a class without instances keeps its bits.
    added_KE = sums_KE.to(means_KE.device) - means_KE * counts_K.to(means_KE.device).unsqueeze(1)
    means_KE += added_KE / after_K.clamp(min=1).unsqueeze(1)
    before_K.copy_(after_K)


def sum_by_class(
    embedding_NE: Tensor, labels_N: Tensor, *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of the embeddings of each class [K, E] and their number [K]."""
    sums_KE = embedding_NE.new_zeros(num_classes, embedding_NE.shape[1])
    sums_KE.index_add_(0, labels_N, embedding_NE)
    return sums_KE, torch.bincount(labels_N, minlength=num_classes)


class HeadInput:
    """Notes what a layer reads in a forward pass."""

    def __init__(self, head: nn.Linear) -> None:
        self._head = head

    def logits(self, network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [N, K] of a network, and what the layer read for them [N, E].

        Raises:
            ValueError: The layer was not asked: what makes the logits is another one.
        """
        seen: list[Tensor] = []

        def note(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            seen.append(arguments[0])

        hook = self._head.register_forward_pre_hook(note)
        try:
            logits_NK: Tensor = network(inputs)
        finally:
            hook.remove()
        if not seen:
            raise ValueError("class_means: true: another layer makes the logits; leave it out")
        return logits_NK, seen[-1].flatten(start_dim=1)
