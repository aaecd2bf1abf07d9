"""Measures networks on the evaluation sets, against version 0."""

from collections.abc import Mapping, Sequence

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

    def accuracy(self, network: nn.Module) -> Mapping[str, float]:
        """Return the accuracy, 0 to 1, by name of the set."""
        return {
            each.name: evaluate(
                network,
                each.inputs,
                each.labels,
                preprocessing=self._preprocessing,
                device=self._device,
                batch_size=self._batch_size,
            ).accuracy
            for each in self._sets
        }
