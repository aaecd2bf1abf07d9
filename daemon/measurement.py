"""Measures networks on the evaluation sets, against version 0, and inputs by version 0's eyes."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from teacherd.daemon.evaluation_sets import EvaluationSet
from teacherd.daemon.holdout_split import places_in
from teacherd.models.embedding import Embedder
from teacherd.models.evaluation import Evaluation, evaluate
from teacherd.models.preprocessing import Preprocessing

_EMBEDDED_AT_ONCE = 256
"""No setting: the last bits depend on it, and the lineage log holds what comes of embeddings."""


class Measurement:
    """Accuracy of a network on each evaluation set; version 0's is measured once.

    Args:
        base: Version 0; kept for `embedder`.
        classes: Version 0's; may be left out where no set has others.
    """

    def __init__(
        self,
        sets: Sequence[EvaluationSet],
        *,
        base: nn.Module,
        classes: Sequence[str] = (),
        preprocessing: Preprocessing,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._sets = sets
        self._preprocessing = preprocessing
        self._device = device
        self._batch_size = batch_size
        self.base = self.accuracy(base, classes)
        self.embedder = Embedder(
            base, preprocessing=preprocessing, device=device, batch_size=_EMBEDDED_AT_ONCE
        )
        """Embeds inputs as version 0 does, whatever the teacher has become."""

    def accuracy(
        self,
        network: nn.Module,
        classes: Sequence[str] = (),
        *,
        on_batch: Callable[[], None] = lambda: None,
    ) -> Mapping[str, float]:
        """Return the accuracy, 0 to 1, by name of the set; arguments as `measure`."""
        measured = self.measure(network, classes, on_batch=on_batch)
        return {name: evaluation.accuracy for name, evaluation in measured.items()}

    def measure(
        self,
        network: nn.Module,
        classes: Sequence[str] = (),
        *,
        on_batch: Callable[[], None] = lambda: None,
    ) -> Mapping[str, Evaluation]:
        """Return how a network does, by name of the set; what it does not know it gets wrong.

        Args:
            network: Lies on the device.
            classes: Its own; may be left out where no set has others than version 0's.
            on_batch: Called after each forward pass: a set may take longer than any step.
        """
        found = {}
        for each in self._sets:
            unknown = [name for name in each.classes if name not in classes]
            found[each.name] = evaluate(
                network,
                each.inputs,
                places_in((*classes, *unknown), each.labels, each.classes),
                preprocessing=self._preprocessing,
                device=self._device,
                batch_size=self._batch_size,
                num_new_classes=len(unknown),
                on_batch=on_batch,
            )
        return found
