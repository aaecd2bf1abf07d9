"""The teacher's answers to the instances of a task, asked for once until the teacher changes.

Legend: N instances, B batch, K classes.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from teacherd.models.batches import Batch, Batches
from teacherd.models.placement import Placement
from teacherd.models.ranks import ALONE, Ranks

_BATCH_SIZE = 256


class TeacherAnswers:
    """Remembers the logits of a teacher that stands still between two consolidations.

    In eval mode an answer depends on its instance alone, so those of a whole task can be kept: one
    pass between two consolidations instead of one per epoch, an eighth of the method's work.
    Augmented instances are new each time; about them the teacher is asked with the dusted ones.

    Args:
        teacher: In eval mode. Call `forget` whenever it has changed.
        batches: Of the task.
        placement: Where and how to compute.
        ranks: Each asks about its share of the task, then tells the others.
        on_batch: Called after each forward pass.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        batches: Batches,
        placement: Placement,
        ranks: Ranks = ALONE,
        on_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._ranks = ranks
        self._teacher = teacher
        self._batches = batches
        self._placement = placement
        self._on_batch = on_batch
        self._logits_NK: Tensor | None = None

    def of(self, batch: Batch) -> Tensor | None:
        """Return the logits [B, K] for the share's inputs without dust, None where they are new."""
        if batch.is_augmented:
            return None
        if self._logits_NK is None:
            self._logits_NK = self._ask()
        return self._logits_NK[batch.share.of(batch.places)]

    def forget(self) -> None:
        """Ask again when next needed."""
        self._logits_NK = None

    def _ask(self) -> Tensor:
        num_instances = self._batches.num_places
        share = self._ranks.share(num_instances)
        answers = []
        # The largest share's: shares differ by at most one instance.
        num_batches = math.ceil(math.ceil(num_instances / self._ranks.size) / _BATCH_SIZE)
        asked = torch.split(share.of(torch.arange(num_instances)), _BATCH_SIZE)
        with torch.no_grad(), self._placement.autocast():
            for _, places in itertools.zip_longest(range(num_batches), asked):
                if places is not None:
                    answers.append(self._teacher(self._batches.inputs_of(places)))
                    self._on_batch()
                self._ranks.keep_abreast()
        mine = torch.cat(answers).float()
        if self._ranks.is_alone:
            return mine
        logits_NK = mine.new_zeros(num_instances, mine.shape[1])
        if share.weight:
            share.of(logits_NK).copy_(mine)
        return self._ranks.sum_(logits_NK)
