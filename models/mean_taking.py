"""Takes the mean embedding of each class of a task, by all ranks together."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.batches import Batches
from teacherd.models.class_means import (
    HeadInput,
    add_to_means,
    head_with_means,
    means_of,
    sum_by_class,
)
from teacherd.models.draws import Draws
from teacherd.models.evaluation import evaluation_mode
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.ranks import ALONE, Ranks
from teacherd.models.task import Task

_BATCH_SIZE = 256


class MeanTaking:
    """Embeds instances where a network carries means, and adds up.

    Args:
        placement: Where and how to compute.
        ranks: Each embeds its share, then tells the others.
        on_batch: Called after each forward pass.
    """

    def __init__(self, *, placement: Placement, ranks: Ranks, on_batch: Callable[[], None]) -> None:
        self._placement = placement
        self._ranks = ranks
        self._on_batch = on_batch

    def add(self, network: nn.Module, batches: Batches) -> None:
        """Let a network's means be those of a task's instances, too; one without means stays.

        Args:
            network: Its buffers are changed.
            batches: Of the task; instances of the memory were counted when they came.
        """
        head = head_with_means(network)
        if head is not None:
            add_to_means(head, *self.sums(network, head, batches, batches.num_instances))

    def sums(
        self, network: nn.Module, head: nn.Linear, batches: Batches, num_places: int
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of each class's embeddings [K, E] and their number [K].

        Args:
            network: Embeds; stays as it is.
            head: Its layer that carries means.
            batches: Of the task.
            num_places: How many of its instances, from the first.
        """
        means_KE, _ = means_of(head)
        reader = HeadInput(head)
        sums_KE = torch.zeros_like(means_KE)
        counts_K = torch.zeros(len(means_KE), dtype=torch.int64, device=means_KE.device)
        share = self._ranks.share(num_places)
        # The largest share's: shares differ by at most one instance.
        num_batches = math.ceil(math.ceil(num_places / self._ranks.size) / _BATCH_SIZE)
        asked = torch.split(share.of(torch.arange(num_places)), _BATCH_SIZE)
        with evaluation_mode(network), self._placement.autocast():
            for _, places in itertools.zip_longest(range(num_batches), asked):
                if places is not None:
                    _, embedding_BE = reader.logits(network, batches.inputs_of(places))
                    more_KE, number_K = sum_by_class(
                        embedding_BE.float(),
                        batches.labels_of(places),
                        num_classes=len(means_KE),
                    )
                    sums_KE += more_KE
                    counts_K += number_K
                    self._on_batch()
                self._ranks.keep_abreast()
        if not share.weight:
            sums_KE.zero_()
            counts_K.zero_()
        return self._ranks.sum_(sums_KE), self._ranks.sum_(counts_K)


def take_class_means(
    network: nn.Module,
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
) -> None:
    """Let a network's means be those of a data set, too: of a base model's training data.

    Args:
        network: Lies on the device; its buffers are changed, where it carries means.
        inputs: Raw inputs.
        labels: Class indices.
        preprocessing: As the network was trained with.
        device: Where to compute.
    """
    placement = Placement(device=device)
    batches = Batches(
        Task(number=0, inputs=inputs, labels=labels, num_new_classes=0),
        batch_size=_BATCH_SIZE,
        augmentation=AugmentationConfig(),
        preprocessing=preprocessing,
        draws=Draws(seed=0, task=0),
        placement=placement,
    )
    MeanTaking(placement=placement, ranks=ALONE, on_batch=lambda: None).add(network, batches)
