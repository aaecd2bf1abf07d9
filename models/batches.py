"""A task on its device, served as the batches of one step after another.

Legend: N instances, B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from teacherd.models.augmentation import AugmentationConfig, augment
from teacherd.models.draws import Draws
from teacherd.models.evaluation import as_tensor
from teacherd.models.placement import Placement
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.ranks import ALONE, EVERYTHING, Ranks, Share
from teacherd.models.task import Task

_IMAGE_NDIM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step learns from."""

    inputs: Tensor
    """Normalised inputs [B, ...]."""
    labels: Tensor
    """Class indices [B]."""
    places: Tensor
    """Places of the instances [B] in the task's order; those of the memory come behind them."""
    is_augmented: bool
    """Whether the inputs are other than the task's."""
    share: Share = EVERYTHING
    """The part of it that this process computes."""


class Batches:
    """Serves the batches of any step, in any order of asking.

    Each epoch visits every instance once, in an order of its own. An epoch is cut into the fewest
    batches of at most `batch_size`, and these evenly: a last batch of a few stragglers would push
    the student as hard as a full one (ours).

    A batch is the same on every rank, draws included, and says which part of it is this rank's:
    what is learned does not depend on how many there are.

    Each batch has as many instances of the rehearsal memory behind those of the task, or the whole
    memory where that is smaller: another choice at each step (method.md, 6).

    Args:
        task: What is learned.
        batch_size: Most instances of the task in a batch.
        augmentation: Of all inputs.
        preprocessing: Of raw inputs.
        draws: Of the task.
        placement: Where and how to compute.
        ranks: Those that share each batch.
        rehearsed: Raw inputs and labels of the memory; None for none.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch_size: int,
        augmentation: AugmentationConfig,
        preprocessing: Preprocessing,
        draws: Draws,
        placement: Placement,
        ranks: Ranks = ALONE,
        rehearsed: tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None = None,
    ) -> None:
        if augmentation.changes_anything and task.inputs.ndim != _IMAGE_NDIM:
            raise ValueError(
                "augmentation: can change images only, and these are feature vectors; take "
                "crop_padding 0 and horizontal_flip false"
            )
        self.num_instances = len(task.labels)
        self.num_steps_per_epoch = -(-self.num_instances // batch_size)
        inputs, labels = [as_tensor(task.inputs)], [as_tensor(task.labels)]
        if rehearsed is not None:
            inputs.append(as_tensor(rehearsed[0]))
            labels.append(as_tensor(rehearsed[1]))
        self._raw = torch.cat(inputs).to(placement.device)
        self._labels = torch.cat(labels).to(placement.device)
        self.classes = frozenset(torch.cat(labels).tolist())
        """Those of the task and of the memory."""
        self.num_places = len(self._labels)
        """Instances of the task and of the memory."""
        self._augmentation = augmentation
        self._preprocessing = preprocessing
        self._draws = draws
        self._placement = placement
        self._ranks = ranks
        self._order: tuple[int, Tensor] | None = None

    def batch(self, step: int) -> Batch:
        """Return what a step learns from; steps are counted from 0 through all epochs."""
        start, end = self._edges(step)
        places = self._order_of(step // self.num_steps_per_epoch)[start:end]
        if self.num_places > self.num_instances:
            places = torch.cat([places, self._rehearsed_places(step, end - start)])
        generator = self._draws.generator("augmentation", step, self._raw.device)
        raw = augment(self._raw[places], self._augmentation, generator)
        return Batch(
            inputs=self._normalise(raw),
            labels=self._labels[places],
            places=places,
            is_augmented=self._augmentation.changes_anything,
            share=self._ranks.share(len(places)),
        )

    def num_of_task(self, step: int) -> int:
        """Return how many instances of the task a step's batch has."""
        start, end = self._edges(step)
        return end - start

    def inputs_of(self, places: Tensor) -> Tensor:
        """Return the normalised inputs of some instances, not augmented.

        Args:
            places: Of the instances in the task's order, on any device.
        """
        return self._normalise(self._raw[places.to(self._raw.device)])

    def labels_of(self, places: Tensor) -> Tensor:
        """Return the labels of some instances, on the device."""
        return self._labels[places.to(self._labels.device)]

    def sample(self, num_instances: int, *, batch_size: int = 256) -> Sequence[Tensor]:
        """Return normalised inputs of so many instances, or of all, as batches."""
        order = torch.randperm(self.num_instances, generator=self._draws.generator("calibration"))
        parts = torch.split(order[:num_instances], batch_size)
        return [self.inputs_of(places) for places in parts]

    def _normalise(self, raw: Tensor) -> Tensor:
        return self._placement.place_inputs(self._preprocessing.apply(raw))

    def _edges(self, step: int) -> tuple[int, int]:
        """Return where a batch starts and ends in the order of its epoch."""
        place = step % self.num_steps_per_epoch
        return (
            place * self.num_instances // self.num_steps_per_epoch,
            (place + 1) * self.num_instances // self.num_steps_per_epoch,
        )

    def _rehearsed_places(self, step: int, most: int) -> Tensor:
        generator = self._draws.generator("rehearsal", step)
        order = torch.randperm(self.num_places - self.num_instances, generator=generator)
        return (order[:most] + self.num_instances).to(self._raw.device)

    def _order_of(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            order = self._draws.permutation(epoch, self.num_instances).to(self._raw.device)
            self._order = (epoch, order)
        return self._order[1]
