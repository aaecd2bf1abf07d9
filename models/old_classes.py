"""What a task must keep: the classes known before it, in dense groups, and how much they weigh.

method.md, section 5; source [DKD] Shi et al., arXiv 2405.09820. (S) is stated there, (O) our
reading of what it leaves open.

Legend: B batch, K classes.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from teacherd.models.dense_groups import DenseGroups
from teacherd.models.task_pool import PoolKind, TaskPool

_NEVER = -1e4
"""A logit of probability zero; not infinite, because zero times infinity is no number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewClassesConfig:
    """How old classes are kept while new ones are learned, and where they came one by one."""

    pool: PoolKind = "contiguous"
    """Which groups of old classes are kept apart from one another: each increment (increments), or
    each run of increments (contiguous). (O)"""
    groups: Literal["full", "random"] = "full"
    """How many of them a step looks at: all (full) or one by chance (random). (S)"""
    weight: float = 1.0
    """Weight of the old classes against the new ones (lambda0); 0 lets them be forgotten. (O)"""
    weighting: Literal["adaptive", "constant"] = "adaptive"
    """Whether the weight grows with the old classes' share and their likeness to the new ones (S),
    by sqrt(old / new) (1 + similarity) (O), or stays as it is."""
    labels: Literal["present", "all"] = "present"
    """Among which classes the label of a new class's instance is asked for: all, or those that the
    task or the memory has instances of (ours). What is not there to be defended is forgotten
    altogether where it is denied with every new instance. A class by itself is asked among all."""
    means: bool = True
    """Whether old classes that neither task nor memory has instances of are learned again by their
    mean embeddings, where the version carries these; such a task trains the last layer only."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight: {self.weight}: must be at least 0 and finite; take 1")

    def weight_of(self, *, num_old: int, num_new: int, similarity: float) -> float:
        """Return lambda of a task; 1 where no class is new."""
        if num_new == 0:
            return 1.0
        if self.weighting == "constant":
            return self.weight
        return self.weight * math.sqrt(num_old / num_new) * (1 + similarity)


class OldClasses:
    """The classes that were known before a task.

    Args:
        config: Which groups there are.
        pool: The increments that they came in.
        num_new: Classes that the task brings.
        present: Classes that there are instances of, in the task or the memory.
        similarity: Of the new ones to the old ones, 0 to 1.
        temperature: Of the distillation.
        device: Where the logits lie.
    """

    def __init__(
        self,
        config: NewClassesConfig,
        *,
        pool: TaskPool,
        num_new: int,
        present: Collection[int],
        similarity: float,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.num_new = num_new
        self.weight = config.weight_of(
            num_old=pool.num_classes, num_new=num_new, similarity=similarity
        )
        """Lambda: what the loss on old classes is multiplied with."""
        self._pool = pool
        self._is_random = config.groups == "random"
        self._groups = DenseGroups(pool, temperature=temperature, device=device)
        # One class by itself has nothing to be told from.
        asks_all = config.labels == "all" or len(present) == 1
        is_asked = [asks_all or each in present for each in range(pool.num_classes)]
        self._is_unasked_K = ~torch.tensor([*is_asked, *[True] * num_new], device=device)

    @property
    def num_old(self) -> int:
        """How many there are."""
        return self._pool.num_classes

    def asked(self, student_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Return logits in which no class is an answer that a new instance is not asked about.

        Args:
            student_BK: Logits of all classes, new ones last.
            labels_B: Class indices.
        """
        is_new_B1 = (labels_B >= self.num_old).unsqueeze(1)
        return student_BK.masked_fill(is_new_B1 & self._is_unasked_K, _NEVER)

    def divergence(
        self, student_BK: Tensor, teacher_BK: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return L_KD of each instance [B], without its factor of temperature squared.

        Args:
            student_BK: Logits of all classes, new ones last.
            teacher_BK: Logits of the old ones.
            generator: On the CPU; draws the group, where one is drawn.
        """
        if self._is_random:
            assert generator is not None, "random groups are drawn"
            loss_B = self._groups.random(student_BK, teacher_BK, generator)
        else:
            loss_B = self._groups.full(student_BK, teacher_BK)
        return loss_B / self._groups.temperature**2
