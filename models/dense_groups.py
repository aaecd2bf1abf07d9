"""Dense knowledge distillation (DKD): a loss for each group of classes of a task pool.

method.md, section 5: the groups are (S), the formulas (O). For logits y of the old model and z of
the student, restricted to the classes C_g of a group g:

    L_g = T^2 KL( softmax(y[C_g] / T) || softmax(z[C_g] / T) )

A group is a run of increments, and a softmax over a run is put together from those of its
increments: with A_k the log-sum-exp of increment k, lse(g) = logsumexp of its A_k, and the
divergence is the increments' own, weighted with exp(A_k - lse(g)), and one of the weights. So 210
groups of 20 increments cost one pass over the classes and a table of 210 x 20, not 210 passes.

Legend: B batch, K classes, N increments, L classes of the longest increment, G groups.
"""

import math

import torch
from torch import Tensor

from teacherd.models.task_pool import TaskPool

TEMPERATURE = 2.0
"""(O)"""


class DenseGroups:
    """Losses over the groups of a pool, all at once or some of them.

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
        count, longest = len(pool.increments), max(pool.increments)
        places = torch.arange(longest)
        sizes = torch.tensor(pool.increments)
        starts = sizes.cumsum(0) - sizes
        is_class_NL = places < sizes[:, None]
        self._class_NL = torch.where(is_class_NL, starts[:, None] + places, 0).to(device)
        self._is_class_NL = is_class_NL.to(device)
        runs = torch.tensor(pool.runs)
        increments = torch.arange(count)
        is_in_GN = (runs[:, :1] <= increments) & (increments < runs[:, 1:])
        self._is_in_GN = is_in_GN.to(device)

    def losses(
        self, student_logits: Tensor, old_logits: Tensor, groups: Tensor | None = None
    ) -> Tensor:
        """Return L_g for each group [G], means over the batch; for some of them in their order.

        Args:
            student_logits: [B, K or more]; gets gradients.
            old_logits: [B, K or more], of the frozen old model.
            groups: Indices of groups; None takes all.
        """
        is_in_GN = self._is_in_GN if groups is None else self._is_in_GN[groups]
        student_BNL, old_BNL = (self._by_increment(each) for each in (student_logits, old_logits))
        student_BN, old_BN = student_BNL.logsumexp(2), old_BNL.logsumexp(2)
        inner_BN = _divergence(student_BNL - student_BN[..., None], old_BNL - old_BN[..., None])
        outside_GN = torch.zeros_like(is_in_GN, dtype=old_BN.dtype).masked_fill(
            ~is_in_GN, -math.inf
        )
        student_BGN, old_BGN = (each[:, None] + outside_GN for each in (student_BN, old_BN))
        student_weights_BGN, old_weights_BGN = (
            each - each.logsumexp(2, keepdim=True) for each in (student_BGN, old_BGN)
        )
        outer_BG = _divergence(student_weights_BGN, old_weights_BGN)
        inner_BG = (old_weights_BGN.exp() * inner_BN[:, None]).sum(2)
        return (outer_BG + inner_BG).mean(0) * self.temperature**2

    def full(self, student_logits: Tensor, old_logits: Tensor) -> Tensor:
        """Return L_FDKD, the mean over all groups."""
        return self.losses(student_logits, old_logits).mean()

    def random(
        self, student_logits: Tensor, old_logits: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return L_RDKD, the loss of one group by chance: its mean over draws is L_FDKD."""
        group = torch.randint(len(self.pool), (1,), generator=generator)
        return self.losses(student_logits, old_logits, group.to(student_logits.device))[0]

    def _by_increment(self, logits: Tensor) -> Tensor:
        chosen_BNL = logits[:, self._class_NL] / self.temperature
        return chosen_BNL.masked_fill(~self._is_class_NL, -math.inf)


def _divergence(student_log: Tensor, old_log: Tensor) -> Tensor:
    """Return KL(old || student) over the last axis; places where both are -inf are no classes."""
    is_class = old_log > -math.inf
    difference = torch.where(is_class, old_log, 0.0) - torch.where(is_class, student_log, 0.0)
    return (old_log.exp() * difference).sum(-1)
