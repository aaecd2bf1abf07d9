"""Dense knowledge distillation (DKD): a loss for each group of classes of a task pool.

method.md, section 5: the groups are (S), the formulas (O). For logits y of the old model and z of
the student, restricted to the classes C_g of a group g:

    L_g = T^2 KL( softmax(y[C_g] / T) || softmax(z[C_g] / T) )

A group is a run of increments, and its loss is put together from those of its increments: with a
and b the logits of old model and student over T, A and B their log-sum-exp over the group, and E
the mean of a - b under the old model's softmax, the divergence is E - A + B. Of a run that is
longer by one increment, A and B are a log-add-exp, and E is a mean of two. So n increments take one
pass over the classes and n steps of at most n groups, not a pass for each of n (n + 1) / 2 groups.

Legend: B batch, N increments, L classes of the longest increment, G groups, R runs of one length.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from teacherd.models.task_pool import TaskPool

TEMPERATURE = 2.0
"""(O)"""


class DenseGroups:
    """Losses over the groups of a pool, all of them or one.

    Args:
        pool: Its classes are the first of the logits; what comes behind them is new and no one's.
        temperature: T.
    """

    def __init__(
        self,
        pool: TaskPool,
        *,
        temperature: float = TEMPERATURE,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature: {temperature}: must be above 0 and finite; take 2")
        self.pool = pool
        self.temperature = temperature
        places = torch.arange(max(pool.increments))
        sizes = torch.tensor(pool.increments)
        starts = sizes.cumsum(0) - sizes
        is_class_NL = places < sizes[:, None]
        self._class_NL = torch.where(is_class_NL, starts[:, None] + places, 0).to(device)
        self._is_class_NL = is_class_NL.to(device)

    def losses(self, student_logits: Tensor, old_logits: Tensor) -> Tensor:
        """Return L_g of each instance and group [B, G], groups in the order of `pool.runs`.

        Args:
            student_logits: [B, classes of the pool or more]; gets gradients.
            old_logits: The same of the frozen old model.
        """
        student_BNL, old_BNL = (self._by_increment(each) for each in (student_logits, old_logits))
        old_BN, student_BN = old_BNL.logsumexp(2), student_BNL.logsumexp(2)
        difference_BNL = (old_BNL - student_BNL).masked_fill(~self._is_class_NL, 0.0)
        mean_BN = (old_BNL.softmax(2) * difference_BNL).sum(2)
        old_BR, student_BR, mean_BR = old_BN, student_BN, mean_BN
        losses = [mean_BR - old_BR + student_BR]
        for added in range(1, self.pool.longest):
            longer_BR = torch.logaddexp(old_BR[:, :-1], old_BN[:, added:])
            mean_BR = mean_BR[:, :-1] * (old_BR[:, :-1] - longer_BR).exp() + (
                mean_BN[:, added:] * (old_BN[:, added:] - longer_BR).exp()
            )
            student_BR = torch.logaddexp(student_BR[:, :-1], student_BN[:, added:])
            old_BR = longer_BR
            losses.append(mean_BR - old_BR + student_BR)
        return torch.cat(losses, dim=1) * self.temperature**2

    def full(self, student_logits: Tensor, old_logits: Tensor) -> Tensor:
        """Return L_FDKD of each instance [B], the mean over all groups."""
        return self.losses(student_logits, old_logits).mean(1)

    def random(
        self, student_logits: Tensor, old_logits: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return L_RDKD [B], the loss of one group by chance: its mean over draws is L_FDKD."""
        group = int(torch.randint(len(self.pool), (), generator=generator))
        classes = self.pool.classes(group)
        student_log, old_log = (
            F.log_softmax(each[:, classes.start : classes.stop] / self.temperature, dim=1)
            for each in (student_logits, old_logits)
        )
        divergence = F.kl_div(student_log, old_log, reduction="none", log_target=True)
        return divergence.sum(1) * self.temperature**2

    def _by_increment(self, logits: Tensor) -> Tensor:
        # Normalised, so that what is subtracted from one another is small.
        logs = F.log_softmax(logits[:, : self.pool.num_classes] / self.temperature, dim=1)
        return logs[:, self._class_NL].masked_fill(~self._is_class_NL, -math.inf)
