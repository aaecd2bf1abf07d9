"""Dense groups: each loss against its formula, and the properties of method.md, section 5."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teacherd.models.dense_groups import DenseGroups
from teacherd.models.task_pool import PoolKind, TaskPool

INCREMENTS = st.lists(st.integers(1, 6), min_size=1, max_size=6)
KINDS = st.sampled_from(["increments", "contiguous"])
TEMPERATURE = 2.0


def logits(num_classes: int, seed: int, *, batch: int = 5) -> Tensor:
    """Return seeded logits of some size."""
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(batch, num_classes, generator=generator, dtype=torch.float64)


def naive(pool: TaskPool, student: Tensor, old: Tensor) -> Tensor:
    """Return the formula, group by group."""
    losses = []
    for group in range(len(pool)):
        classes = list(pool.classes(group))
        q = F.log_softmax(student[:, classes] / TEMPERATURE, dim=1)
        p = F.log_softmax(old[:, classes] / TEMPERATURE, dim=1)
        losses.append(TEMPERATURE**2 * (p.exp() * (p - q)).sum(1))
    return torch.stack(losses, dim=1)


@given(INCREMENTS, KINDS, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_each_loss_is_that_of_its_formula(increments: list[int], kind: PoolKind, seed: int) -> None:
    """Values and gradients, for increments of unequal sizes; classes behind the pool's are new."""
    pool = TaskPool(increments, kind=kind)
    student = logits(pool.num_classes + 2, seed).requires_grad_()
    old = logits(pool.num_classes, seed + 1)
    expected = naive(pool, student, old)
    got = DenseGroups(pool, temperature=TEMPERATURE).losses(student, old)
    weights = torch.rand(5, len(pool), generator=torch.Generator().manual_seed(2)).double()
    (slope,) = torch.autograd.grad((expected * weights).sum(), student, retain_graph=True)
    (got_slope,) = torch.autograd.grad((got * weights).sum(), student)

    torch.testing.assert_close(expected, got)
    torch.testing.assert_close(slope, got_slope)


@given(INCREMENTS, KINDS)
@settings(max_examples=20, deadline=None)
def test_nothing_is_lost_where_the_student_answers_as_the_old_model(
    increments: list[int], kind: PoolKind
) -> None:
    """L_KD = 0 when y = z, and no gradient."""
    pool = TaskPool(increments, kind=kind)
    old = logits(pool.num_classes, 3)
    student = old.clone().requires_grad_()
    loss = DenseGroups(pool).full(student, old).sum()
    (slope,) = torch.autograd.grad(loss, student)

    assert 0 == pytest.approx(loss.item(), abs=1e-9)
    assert 0 == pytest.approx(slope.abs().max().item(), abs=1e-9)


def test_a_constant_within_a_group_changes_nothing_for_it() -> None:
    """A softmax does not see it; groups that have but a part of those classes do."""
    pool = TaskPool((2, 3, 1))
    old, student = logits(6, 4), logits(6, 5)
    moved = student.clone()
    moved[:, 2:5] += 7.0
    groups = DenseGroups(pool)
    before, after = groups.losses(student, old).mean(0), groups.losses(moved, old).mean(0)
    within = [set(pool.classes(g)) <= {2, 3, 4} for g in range(len(pool))]
    apart = [not set(pool.classes(g)) & {2, 3, 4} for g in range(len(pool))]
    unchanged = [a or b for a, b in zip(within, apart, strict=True)]

    assert unchanged == torch.isclose(before, after).tolist()


def test_one_increment_is_ordinary_distillation() -> None:
    """As learning without forgetting has it: T^2 KL over all old classes."""
    old, student = logits(7, 6), logits(9, 7)
    expected = TEMPERATURE**2 * F.kl_div(
        F.log_softmax(student[:, :7] / TEMPERATURE, dim=1),
        F.softmax(old / TEMPERATURE, dim=1),
        reduction="batchmean",
    )

    torch.testing.assert_close(expected, DenseGroups(TaskPool((7,))).full(student, old).mean())


def test_the_mean_of_many_random_draws_is_the_full_loss() -> None:
    """RDKD is unbiased, and one seed gives one sequence of groups."""
    groups = DenseGroups(TaskPool((2, 3, 1, 4)))
    old, student = logits(10, 8), logits(10, 9)

    def draws(seed: int, number: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        return [groups.random(student, old, generator).mean().item() for _ in range(number)]

    each = groups.losses(student, old).mean(0)
    error = each.std().item() / 3000**0.5

    assert draws(1, 10) == draws(1, 10)
    assert groups.full(student, old).mean().item() == pytest.approx(
        sum(draws(0, 3000)) / 3000, abs=5 * error
    )


def test_large_logits_stay_finite() -> None:
    """Groups of what the old model is sure about, in the precision that is trained with."""
    pool = TaskPool((3, 2))
    student = (1000 * logits(5, 10)).float().requires_grad_()
    loss = DenseGroups(pool).full(student, (1000 * logits(5, 11)).float()).mean()
    (slope,) = torch.autograd.grad(loss, student)

    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()
