"""A task on its device, served as the batches of one step after another.

Legend: N instances, B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Places of the instances [B] in the task's order."""
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
    ) -> None:
        if augmentation.changes_anything and task.inputs.ndim != _IMAGE_NDIM:
            raise ValueError(
                "augmentation: can change images only, and these are feature vectors; take "
                "crop_padding 0 and horizontal_flip false"
            )
        self.num_instances = len(task.labels)
        self.num_steps_per_epoch = -(-self.num_instances // batch_size)
        self._raw = as_tensor(task.inputs).to(placement.device)
        self._labels = as_tensor(task.labels).to(placement.device)
        self._augmentation = augmentation
        self._preprocessing = preprocessing
        self._draws = draws
        self._placement = placement
        self._ranks = ranks
        self._order: tuple[int, Tensor] | None = None

    def batch(self, step: int) -> Batch:
        """Return what a step learns from; steps are counted from 0 through all epochs."""
        epoch, place = divmod(step, self.num_steps_per_epoch)
        start, end = (
            edge * self.num_instances // self.num_steps_per_epoch for edge in (place, place + 1)
        )
        places = self._order_of(epoch)[start:end]
        generator = self._draws.generator("augmentation", step, self._raw.device)
        raw = augment(self._raw[places], self._augmentation, generator)
        return Batch(
            inputs=self._normalise(raw),
            labels=self._labels[places],
            places=places,
            is_augmented=self._augmentation.changes_anything,
            share=self._ranks.share(len(places)),
        )

    def inputs_of(self, places: Tensor) -> Tensor:
        """Return the normalised inputs of some instances, not augmented.

        Args:
            places: Of the instances in the task's order, on any device.
        """
        return self._normalise(self._raw[places.to(self._raw.device)])

    def sample(self, num_instances: int, *, batch_size: int = 256) -> Sequence[Tensor]:
        """Return normalised inputs of so many instances, or of all, as batches."""
        order = torch.randperm(self.num_instances, generator=self._draws.generator("calibration"))
        parts = torch.split(order[:num_instances], batch_size)
        return [self.inputs_of(places) for places in parts]

    def _normalise(self, raw: Tensor) -> Tensor:
        return self._placement.place_inputs(self._preprocessing.apply(raw))

    def _order_of(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            order = self._draws.permutation(epoch, self.num_instances).to(self._raw.device)
            self._order = (epoch, order)
        return self._order[1]
