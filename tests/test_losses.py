"""Tests of the losses of DBD against their formulas, written out instance by instance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teacherd.models.losses import (
    DistillationConfig,
    dust_loss,
    fuse_labels,
    fused_loss,
    split_loss,
)


def softmax(logits: list[float], temperature: float) -> list[float]:
    """Return probabilities, in plain Python."""
    exponentials = [math.exp(logit / temperature) for logit in logits]
    return [each / sum(exponentials) for each in exponentials]


def naive_fused_labels(
    logits: list[list[float]], labels: list[int], share: float, temperature: float
) -> list[list[float]]:
    """Return method.md 2.2 as it is written."""
    return [
        [share * (k == y) + (1 - share) * p for k, p in enumerate(softmax(row, temperature))]
        for row, y in zip(logits, labels, strict=True)
    ]


def random_logits(seed: int, num_rows: int = 5, num_classes: int = 4) -> Tensor:
    """Return logits of a size that networks give."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(num_rows, num_classes, generator=generator)


LABELS = torch.tensor([0, 3, 1, 1, 2])


@given(seed=st.integers(0, 1000), share=st.floats(0, 1), temperature=st.floats(0.3, 5))
@settings(max_examples=30, deadline=None)
def test_fused_labels_are_the_formula(seed: int, share: float, temperature: float) -> None:
    """For any logits, share and temperature: method.md 2.2, and each row is a distribution."""
    logits = random_logits(seed)
    fused = fuse_labels(logits, LABELS, label_share=share, temperature=temperature)

    expected = naive_fused_labels(logits.tolist(), LABELS.tolist(), share, temperature)
    torch.testing.assert_close(torch.tensor(expected), fused, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.ones(5), fused.sum(dim=1))


@given(seed=st.integers(0, 1000), share=st.floats(0.5001, 1))
@settings(max_examples=30, deadline=None)
def test_above_one_half_the_label_stays_the_arg_max(seed: int, share: float) -> None:
    """Whatever a teacher says, however surely, the label wins from a share of one half on."""
    teacher_logits = 10 * random_logits(seed)
    fused = fuse_labels(teacher_logits, LABELS, label_share=share, temperature=1.0)

    assert LABELS.tolist() == fused.argmax(dim=1).tolist()


def test_relative_probabilities_of_other_classes_stay_the_teachers() -> None:
    """Fusing moves mass to the label and leaves the proportions of the rest (method.md 2.2)."""
    logits = random_logits(3)[:1]
    fused = fuse_labels(logits, torch.tensor([0]), label_share=0.5, temperature=1.0)

    teacher = logits.softmax(dim=1)
    torch.testing.assert_close(teacher[0, 1:] / teacher[0, 1], fused[0, 1:] / fused[0, 1])


def test_the_fused_loss_is_the_cross_entropy_against_fused_labels() -> None:
    """CE(fused, softmax(z_S / tau)), the mean over the batch."""
    student, teacher, temperature = random_logits(1), random_logits(2), 2.0
    targets = fuse_labels(teacher, LABELS, label_share=0.5, temperature=temperature)
    loss = fused_loss(student, targets, temperature=temperature)

    expected = [
        -sum(t * math.log(p) for t, p in zip(row, softmax(z, temperature), strict=True))
        for row, z in zip(targets.tolist(), student.tolist(), strict=True)
    ]
    assert sum(expected) / len(expected) == pytest.approx(float(loss), rel=1e-5)


def test_with_the_label_alone_the_fused_loss_is_plain_cross_entropy() -> None:
    """A share of one and class indices give the same number by both ways."""
    student, teacher = random_logits(1), random_logits(2)
    targets = fuse_labels(teacher, LABELS, label_share=1.0, temperature=1.0)

    torch.testing.assert_close(
        fused_loss(student, LABELS, temperature=1.0), fused_loss(student, targets, temperature=1.0)
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_dust_loss_is_the_divergence_from_the_teacher(temperature: float) -> None:
    """KL(teacher || student), the mean over the batch (method.md 2.3)."""
    student, teacher = random_logits(1), random_logits(2)
    loss = dust_loss(student, teacher, temperature=temperature)

    expected = [
        sum(
            t * (math.log(t) - math.log(s))
            for t, s in zip(softmax(y, temperature), softmax(z, temperature), strict=True)
        )
        for y, z in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    assert sum(expected) / len(expected) == pytest.approx(float(loss), rel=1e-5)


def test_a_student_that_answers_like_the_teacher_has_no_dust_loss() -> None:
    """KL is zero there, and so is its gradient; a constant on all logits changes nothing."""
    teacher = random_logits(2)
    student = (teacher + 4.0).requires_grad_()
    loss = dust_loss(student, teacher, temperature=1.0)
    loss.backward()

    assert 0.0 == pytest.approx(float(loss.detach()), abs=1e-6)
    torch.testing.assert_close(torch.zeros_like(student), student.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label_share", -0.1),
        ("label_share", 1.1),
        ("temperature", 0.0),
        ("dust_weight", -1.0),
        ("dust_weight", float("inf")),
        ("flip_share", 0.0),
        ("flip_share", 1.0),
        ("sigma", 0.0),
        ("sigma", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: float) -> None:
    """The error names field and value."""
    with pytest.raises(ValueError, match=f"^{field}: {value}"):
        DistillationConfig(**{field: value})


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_at_temperature_one_both_forms_have_the_same_gradient(seed: int, share: float) -> None:
    """They differ by the entropy of the teacher's answer, which the student cannot change."""
    teacher = random_logits(seed + 1)
    gradients = []
    for is_split in (True, False):
        student = random_logits(seed).requires_grad_()
        if is_split:
            loss = split_loss(student, teacher, LABELS, label_share=share, temperature=1)
        else:
            fused = fuse_labels(teacher, LABELS, label_share=share, temperature=1)
            loss = fused_loss(student, fused, temperature=1)
        gradients.append(torch.autograd.grad(loss, student)[0])

    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_the_split_form_is_the_formula() -> None:
    """The label at temperature 1, the teacher at its own, times its square."""
    student, teacher = random_logits(0), random_logits(1)
    found = split_loss(student, teacher, LABELS, label_share=0.7, temperature=2)
    expected = 0.0
    for s, t, label in zip(student.tolist(), teacher.tolist(), LABELS.tolist(), strict=True):
        asked, soft = softmax(t, 2), softmax(s, 2)
        divergence = sum(p * math.log(p / q) for p, q in zip(asked, soft, strict=True))
        expected += (0.7 * -math.log(softmax(s, 1)[label]) + 0.3 * 4 * divergence) / len(LABELS)

    assert expected == pytest.approx(float(found), rel=1e-5)
