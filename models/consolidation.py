"""Consolidation of a student into a teacher: KC-EMA, spatial ensemble (SE), and both (STS).

method.md, sections 3 and 4. Sources: [IIL] Nie et al., arXiv 2406.03065 (KC-EMA: freezing period,
then intermittent averaging); [SE] Huang et al., "Spatial Ensemble", NeurIPS 2021, arXiv 2110.01253.
(S) is stated by a source, (C) read in its released code, (O) our reading; "ours" is ours.

KC-EMA decides when and how far, SE and STS which fragments. A fragment is one parameter tensor (C).
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from teacherd.models.draws import Draws

_RETAIN_WITH_NEW_CLASSES = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsolidationConfig:
    """When a student is consolidated into the teacher, how far, and which parts of it."""

    kind: Literal["ema", "spatial", "spatial_temporal", "none"] = "ema"
    """ema averages every tensor (S); spatial takes some tensors whole and leaves the others (S);
    spatial_temporal averages some and leaves the others (C); none makes the student the teacher
    at the end of the task, as plain training does."""
    retain: float | None = None
    """Share of the old teacher left after one task, in expectation where tensors are drawn; null
    takes it from the size of the task: exp(-instances / horizon_instances), but not less than
    `least_retain` (ours). 0 follows a drift fastest. (O)"""
    horizon_instances: float = 900.0
    """Instances of which a task, or several together, leave 37 % of the old teacher, where `retain`
    is null: small tasks are learned by heart, so that less is taken over of each. (ours)"""
    least_retain: float = 0.5
    """Share of the old teacher that a task leaves however large it is, where `retain` is null:
    on CIFAR-100 the middle gained more than the student itself, and lost half as much. (O)"""
    momentum: float | None = None
    """Share of the teacher that one consolidation keeps (alpha), in expectation; null derives it
    from `retain`, which then holds for any number of epochs. (O)"""
    freezing_epochs: int = 10
    """Epochs at the start of a task that train the student only. (S)"""
    interval_epochs: int | None = None
    """Epochs from one consolidation to the next; null consolidates once, at the end of the task:
    until then the old teacher is asked, which keeps and gains more than one that moves. (O)"""
    keep_probability: float = 0.1
    """Probability that spatial_temporal leaves a tensor of the teacher as it is; the rest is
    averaged further, so that `retain` holds. Other kinds do not use it. (O)"""

    def __post_init__(self) -> None:
        for name in ("retain", "least_retain", "keep_probability", "momentum"):
            share = getattr(self, name)
            if share is not None and not 0 <= share < 1:
                raise ValueError(f"{name}: {share}: must be at least 0 and below 1; take 0.5")
        if not 0 < self.horizon_instances < math.inf:
            raise ValueError(
                f"horizon_instances: {self.horizon_instances}: must be above 0 and finite; take 900"
            )
        if self.freezing_epochs < 0:
            raise ValueError(f"freezing_epochs: {self.freezing_epochs}: is negative; take 10")
        if self.interval_epochs is not None and self.interval_epochs < 1:
            raise ValueError(f"interval_epochs: {self.interval_epochs}: is below 1; take null or 5")
        largest = self.retain if self.momentum is None else self.momentum
        if (
            self.kind == "spatial_temporal"
            and largest is not None
            and self.keep_probability > largest
        ):
            raise ValueError(
                f"keep_probability: {self.keep_probability}: must be at most {largest}, since "
                "leaving tensors alone already retains more than is asked for; lower it, or raise "
                "retain (or momentum)"
            )

    def retain_of(self, num_instances: int, *, has_new_classes: bool = False) -> float:
        """Return the share of the old teacher that a task of so many instances leaves.

        Where it comes from the size, and the tasks are not large, the same instances leave the
        same, into however many tasks they are cut. New classes are nothing that an old teacher
        knows better: of a task that brings some, however small, most is taken over.
        """
        if self.retain is not None:
            return self.retain
        if has_new_classes:
            return _RETAIN_WITH_NEW_CLASSES
        return max(self.least_retain, math.exp(-num_instances / self.horizon_instances))


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsolidationPlan:
    """What the consolidations of one task are; built by `plan_consolidations`."""

    epochs: tuple[int, ...]
    """Epochs, counted from 1, at whose end the teacher is consolidated; the last one always."""
    alpha: float
    """Share of the teacher that one consolidation keeps, in expectation."""
    keep_probability: float
    """Probability that a fragment stays as it is."""
    momentum: float
    """Share of the teacher in the fragments that do not."""


def plan_consolidations(
    config: ConsolidationConfig, *, epochs: int, num_instances: int, has_new_classes: bool = False
) -> ConsolidationPlan:
    """Return when and how far a task of so many epochs and instances consolidates.

    Ours: the consolidations are counted back from the end, every `interval_epochs`, down to the
    end of the freezing period, so that the last one sees the finished student. A task no longer
    than the freezing period consolidates once, at its end, and so does any without an interval.

    With K consolidations alpha is retain ** (1 / K) (O). SE and STS keep that same share in
    expectation, m_eff = 1 - (1 - p)(1 - m) (derived in method.md 4): for SE m = 0 and so p = alpha;
    for STS p is given and m follows, at least 0.
    """
    if config.kind == "none":
        return ConsolidationPlan(epochs=(epochs,), alpha=0.0, keep_probability=0.0, momentum=0.0)
    interval = config.interval_epochs or epochs
    due = range(epochs, min(config.freezing_epochs, epochs - 1), -interval)
    alpha = config.momentum
    if alpha is None:
        retain = config.retain_of(num_instances, has_new_classes=has_new_classes)
        alpha = retain ** (1 / len(due))
    keep_probability = {"ema": 0.0, "spatial": alpha}.get(config.kind, config.keep_probability)
    momentum = {"ema": alpha, "spatial": 0.0}.get(
        config.kind, 1 - (1 - alpha) / (1 - keep_probability)
    )
    return ConsolidationPlan(
        epochs=tuple(reversed(due)),
        alpha=alpha,
        keep_probability=keep_probability,
        momentum=max(momentum, 0.0),
    )


def draw_kept(num_fragments: int, *, keep_probability: float, draws: Draws, update: int) -> Tensor:
    """Return which fragments [num_fragments] an update of the teacher leaves alone.

    method.md 4: u_i ~ U[0,1), kept where u_i < p (S). Keyed by (lineage seed, task, update), so
    the same on every rank and after every restart (ours; the released code does not seed them).
    """
    uniform = torch.rand(num_fragments, generator=draws.generator("consolidation", update))
    return uniform < keep_probability


@torch.no_grad()
def consolidate(
    teacher: nn.Module,
    student: nn.Module,
    *,
    momentum: float,
    alpha: float | None = None,
    kept: Tensor | None = None,
) -> None:
    """Move the teacher towards the student: t <- m * t + (1 - m) * s in the fragments not kept.

    Floating-point buffers (BatchNorm statistics) are averaged with `alpha`, kept or not, and
    integer buffers are copied (O); the released code of [SE] leaves buffers to the teacher.

    Args:
        teacher: Changed in place.
        student: Of the same architecture; not changed.
        momentum: m; 0 copies the student exactly.
        alpha: For the buffers; None takes m.
        kept: Which parameter tensors stay, in the order of `parameters()`; None: none.
    """
    pairs = list(zip(teacher.parameters(), student.parameters(), strict=True))
    if kept is not None:
        pairs = [pair for pair, keep in zip(pairs, kept.tolist(), strict=True) if not keep]
    _average(pairs, momentum)
    buffers = list(zip(teacher.buffers(), student.buffers(), strict=True))
    _average(
        [pair for pair in buffers if pair[0].is_floating_point()],
        momentum if alpha is None else alpha,
    )
    for mine, theirs in buffers:
        if not mine.is_floating_point():
            mine.copy_(theirs)


def consolidate_after_epoch(
    epoch: int,
    plan: ConsolidationPlan,
    *,
    teacher: nn.Module,
    student: nn.Module,
    draws: Draws,
) -> bool:
    """Consolidate if the plan says so for the end of this epoch, counted from 1; say whether."""
    if epoch not in plan.epochs:
        return False
    kept = draw_kept(
        len(list(teacher.parameters())),
        keep_probability=plan.keep_probability,
        draws=draws,
        update=plan.epochs.index(epoch),
    )
    consolidate(teacher, student, momentum=plan.momentum, alpha=plan.alpha, kept=kept)
    return True


def point_between(teacher: nn.Module, candidate: nn.Module, share: float) -> nn.Module:
    """Return a network on the way from a teacher to a candidate, with this share of the way gone.

    Guarded consolidation (method.md 3, ours): floating-point tensors are averaged, integer ones are
    the candidate's.
    """
    point = copy.deepcopy(teacher)
    consolidate(point, candidate, momentum=1 - share)
    return point


def retained_share(plan: ConsolidationPlan, *, sizes: Sequence[int], draws: Draws) -> float:
    """Return the share of the old teacher left in the parameters after all updates of the plan.

    Args:
        plan: As the task followed it.
        sizes: Number of elements of each parameter tensor.
        draws: Of the task.
    """
    left = torch.ones(len(sizes), dtype=torch.float64)
    for update in range(len(plan.epochs)):
        kept = draw_kept(
            len(sizes), keep_probability=plan.keep_probability, draws=draws, update=update
        )
        left[~kept] *= plan.momentum
    weights = torch.tensor(sizes, dtype=torch.float64)
    return float((left * weights).sum() / weights.sum())


def _average(pairs: Sequence[tuple[Tensor, Tensor]], momentum: float) -> None:
    if pairs:
        mine, theirs = zip(*pairs, strict=True)
        # torch's stubs know only the form with a tensor of weights.
        torch._foreach_lerp_(list(mine), list(theirs), 1 - momentum)
