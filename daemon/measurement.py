"""Measures networks on the evaluation sets, against version 0."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from teacherd.daemon.evaluation_sets import EvaluationSet
from teacherd.models.evaluation import evaluate
from teacherd.models.preprocessing import Preprocessing


class Measurement:
    """Accuracy of a network on each evaluation set; version 0's is measured once.

    Args:
        base: Version 0; not kept.
    """

    def __init__(
        self,
        sets: Sequence[EvaluationSet],
        *,
        base: nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._sets = sets
        self._preprocessing = preprocessing
        self._device = device
        self._batch_size = batch_size
        self.base = self.accuracy(base)

    def accuracy(
        self, network: nn.Module, *, on_batch: Callable[[], None] = lambda: None
    ) -> Mapping[str, float]:
        """Return the accuracy, 0 to 1, by name of the set.

        Args:
            network: Lies on the device.
            on_batch: Called after each forward pass: a set may take longer than any step.
        """
        return {
            each.name: evaluate(
                network,
                each.inputs,
                each.labels,
                preprocessing=self._preprocessing,
                device=self._device,
                batch_size=self._batch_size,
                on_batch=on_batch,
            ).accuracy
            for each in self._sets
        }
