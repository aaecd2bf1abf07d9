"""The rehearsal memory: a few instances of each class, learned again with every task.

method.md, section 6: a class-balanced reservoir, algorithm R of Vitter (ACM TOMS 11, 1985) for each
class. What is kept are instances as they came, not figures: docs/new-classes.md says what that
costs in privacy.

Legend: N instances, K classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from teacherd.models.draws import Draws

_TENSORS = ("inputs", "labels", "num_offered")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryConfig:
    """How many instances are kept to be learned again."""

    instances_per_class: int = 0
    """Most instances of each class; 0 keeps none, as the paper of the method does. (O)"""
    max_bytes: int = 268_435_456
    """Most bytes of all their inputs together; with more classes each has less of them."""

    def __post_init__(self) -> None:
        if self.instances_per_class < 0:
            raise ValueError(
                f"instances_per_class: {self.instances_per_class}: is negative; take 0 for none"
            )
        if self.max_bytes < 1:
            raise ValueError(
                f"max_bytes: {self.max_bytes}: must be at least 1; take instances_per_class 0 for "
                "no memory"
            )

    def capacity(self, *, num_classes: int, instance_bytes: int) -> int:
        """Return how many instances of each class are kept."""
        return min(self.instances_per_class, self.max_bytes // (num_classes * instance_bytes))


class Memory:
    """A uniform sample of what was offered of each class.

    What is kept is a function of the offers, their order and the draws: never of process state. So
    it can be saved, and can be rebuilt from the records of the accepted tasks.
    """

    def __init__(self) -> None:
        self._kept: list[list[npt.NDArray[Any]]] = []
        self._num_offered: list[int] = []
        self.revision = 0
        """Another number whenever it may have changed."""

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    @property
    def num_of_class(self) -> tuple[int, ...]:
        """How many are kept of each class."""
        return tuple(map(len, self._kept))

    @property
    def num_bytes(self) -> int:
        """Of the inputs that are kept."""
        return sum(each.nbytes for kept in self._kept for each in kept)

    def offer(
        self,
        config: MemoryConfig,
        inputs: npt.NDArray[Any],
        labels: npt.NDArray[np.int64],
        *,
        num_classes: int,
        draws: Draws,
    ) -> None:
        """Take in a task that was accepted; once each.

        Args:
            config: How much is kept; what it has no room for any more goes, at random, and where
                nothing is to be kept all goes.
            inputs: Of the task, in its order [N, ...].
            labels: Class indices [N].
            num_classes: That the model knows after the task.
            draws: Of the task.
        """
        capacity = config.capacity(
            num_classes=num_classes, instance_bytes=math.prod(inputs.shape[1:]) * inputs.itemsize
        )
        if capacity == 0:
            self.forget()
            return
        self.revision += 1
        self._kept += [[] for _ in range(num_classes - len(self._kept))]
        self._num_offered += [0] * (num_classes - len(self._num_offered))
        for label in range(num_classes):
            generator = draws.generator("memory", label)
            self._shrink(label, capacity, generator)
            self._offer_class(label, inputs[labels == label], capacity, generator)

    def rehearse(
        self, config: MemoryConfig, *, num_classes: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None:
        """Return inputs and labels to be learned again with a task, None for nothing.

        Args:
            config: A memory that is switched off is not used.
            num_classes: That the model knows before the task.

        Raises:
            ValueError: It has classes that the model does not know.
        """
        if config.instances_per_class == 0:
            return None
        if any(self._kept[num_classes:]):
            raise ValueError(
                f"memory: has instances of class {len(self._kept) - 1}, the teacher knows "
                f"{num_classes}; keep_classes when going back to such a version"
            )
        return self.instances()

    def instances(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None:
        """Return inputs [N, ...] and labels [N] of all that is kept, by class; None for nothing."""
        if not len(self):
            return None
        labels = np.repeat(np.arange(len(self._kept)), [len(each) for each in self._kept])
        return np.stack([each for kept in self._kept for each in kept]), labels.astype(np.int64)

    def keep_classes(self, num_classes: int) -> None:
        """Forget all but the first classes: the model goes back to a version that has no others."""
        self.revision += 1
        del self._kept[num_classes:], self._num_offered[num_classes:]

    def forget(self) -> None:
        """Be as at the beginning."""
        self.revision += 1
        self._kept, self._num_offered = [], []

    def state_dict(self) -> dict[str, Tensor]:
        """Return what there is as flat tensors, ready for safetensors; none of an empty memory."""
        found = self.instances()
        if found is None:
            return {}
        inputs, labels = found
        return {
            "memory.inputs": torch.from_numpy(inputs),
            "memory.labels": torch.from_numpy(labels),
            "memory.num_offered": torch.tensor(self._num_offered),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Be what `state_dict` was taken of; other entries of the state are left alone.

        Raises:
            ValueError: It is damaged.
        """
        found = [state.get(f"memory.{name}") for name in _TENSORS]
        if all(each is None for each in found):
            self.forget()
            return
        self.revision += 1
        inputs, labels, num_offered = (_array(each) for each in found)
        if len(inputs) != len(labels) or not np.isin(labels, np.arange(len(num_offered))).all():
            raise ValueError("memory: inputs, labels and counts do not belong together")
        self._num_offered = num_offered.tolist()
        self._kept = [list(inputs[labels == label]) for label in range(len(num_offered))]

    def _shrink(self, label: int, capacity: int, generator: torch.Generator) -> None:
        """Leave as many as there is room for; any of them, since slots tell when one came."""
        kept = self._kept[label]
        if len(kept) > capacity:
            places = torch.randperm(len(kept), generator=generator)[:capacity].tolist()
            self._kept[label] = [kept[place] for place in places]

    def _offer_class(
        self,
        label: int,
        inputs: npt.NDArray[Any],
        capacity: int,
        generator: torch.Generator,
    ) -> None:
        """Offer instances of a class: the n-th stays with probability capacity / n."""
        kept, num_offered = self._kept[label], self._num_offered[label]
        uniform = torch.rand(len(inputs), generator=generator, dtype=torch.float64).tolist()
        for each, share in zip(inputs, uniform, strict=True):
            num_offered += 1
            if len(kept) < capacity:
                kept.append(each.copy())
            elif (place := int(share * num_offered)) < capacity:
                kept[place] = each.copy()
        self._num_offered[label] = num_offered


def _array(tensor: Tensor | None) -> npt.NDArray[Any]:
    if tensor is None:
        raise ValueError("memory: a part of it is missing")
    return np.array(tensor.cpu().numpy())
