"""Builds the learner of a lineage: what it starts from is the head, in every respect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from teacherd.models.artifact import Manifest
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.memory import Memory


@dataclass(frozen=True, slots=True)
class Head:
    """What the next task starts from, beside its settings."""

    network: nn.Module
    classes: tuple[str, ...]
    increments: tuple[int, ...]
    """Classes of each increment; empty if all came at once."""
    sigma: float | None
    """Deviation of the dust; None before it was calibrated."""

    @classmethod
    def of(cls, network: nn.Module, manifest: Manifest) -> "Head":
        """Return a version as a head."""
        return cls(network, manifest.classes, manifest.increments or (), manifest.sigma)


class LearnerBuilding:
    """Knows what is the same for all heads of a lineage, and the memory that goes from one to next.

    Args:
        template: Of some version.
        device: Where to compute.
        build_learner: Makes a learner.
        on_batch: Called after each forward pass that is not part of a step.
        memory: What is learned again with each task; every learner fills this one.
    """

    def __init__(
        self,
        template: Manifest,
        *,
        device: torch.device,
        build_learner: Callable[..., Learner],
        on_batch: Callable[[], None],
        memory: Memory,
    ) -> None:
        self._template = template
        self._device = device
        self._build_learner = build_learner
        self._on_batch = on_batch
        self._classes: tuple[str, ...] = ()
        self.memory = memory

    def build(self, config: LearnerConfig, head: Head) -> Learner:
        """Return a learner that goes on from a head; memory of other classes is forgotten."""
        self.memory.keep_classes(num_common(self._classes, head.classes))
        self._classes = head.classes
        return self._build_learner(
            config,
            teacher=head.network,
            preprocessing=self._template.preprocessing,
            sigma=head.sigma,
            device=self._device,
            architecture=self._template.architecture,
            # Of a network built anew from them, all classes are known.
            increments=head.increments or (len(head.classes),),
            memory=self.memory,
            on_batch=self._on_batch,
        )

    def accepted(self, classes: Sequence[str]) -> None:
        """Take note of the classes that the memory has instances of by now."""
        self._classes = tuple(classes)


def num_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many classes two lists begin with alike."""
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return number
    return min(len(first), len(second))
