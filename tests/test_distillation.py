"""Tests of a batch's loss terms: the same numbers as in separate passes, and no needless ones."""

import pytest
import torch
import torch.nn.functional as F
from tiny_networks import build_tiny_cnn
from torch import Tensor, nn

from teacherd.models.batches import Batch
from teacherd.models.distillation import loss_terms, term_names
from teacherd.models.losses import (
    DistillationConfig,
    dust_loss,
    fuse_labels,
    fused_loss,
    split_loss,
)

BATCH = Batch(
    inputs=torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)),
    labels=torch.tensor([0, 1, 2, 1]),
    places=torch.arange(4),
    is_augmented=False,
)


class Recorder(nn.Module):
    """Notes how many instances each pass of a network has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.passes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Note and answer."""
        self.passes.append(len(inputs))
        logits: Tensor = self.network(inputs)
        return logits


def terms_of(
    config: DistillationConfig,
    student: nn.Module,
    teacher: nn.Module,
    answers: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the terms for the batch, with dust of 0.3 and seeded."""
    return loss_terms(
        config,
        BATCH,
        student=student,
        teacher=teacher,
        answers_BK=answers,
        sigma=0.3,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("label_share", [0.5, 1.0])
@pytest.mark.parametrize("dust_weight", [0.0, 2.0])
@pytest.mark.parametrize("is_known", [False, True])
def test_joint_passes_give_what_separate_ones_do(
    label_share: float, dust_weight: float, is_known: bool
) -> None:
    """With frozen statistics, fused and dust term and their weighted sum are the formulas'."""
    student, teacher = build_tiny_cnn(1).eval(), build_tiny_cnn(2).eval()
    config = DistillationConfig(
        label_share=label_share, dust_weight=dust_weight, form="fused", temperature=2, dust="noise"
    )
    answers = teacher(BATCH.inputs).detach() if is_known else None
    terms = terms_of(config, student, teacher, answers)
    noise = torch.empty_like(BATCH.inputs).normal_(
        0, 0.3, generator=torch.Generator().manual_seed(1)
    )
    dusted = BATCH.inputs + noise
    targets = fuse_labels(
        teacher(BATCH.inputs), BATCH.labels, label_share=label_share, temperature=2
    )
    fused = fused_loss(student(BATCH.inputs), targets, temperature=2)
    dust = dust_loss(student(dusted), teacher(dusted), temperature=2)

    assert term_names(config) == tuple(terms)
    torch.testing.assert_close(fused, terms["fused"])
    torch.testing.assert_close(fused + dust_weight * dust, terms["total"])
    if dust_weight:
        torch.testing.assert_close(dust, terms["dust"])


@pytest.mark.parametrize(
    ("label_share", "dust_weight", "is_known", "student_passes", "teacher_passes"),
    [
        (0.5, 1.0, False, [8], [8]),
        (0.5, 1.0, True, [8], [4]),
        (0.5, 0.0, False, [4], [4]),
        (0.5, 0.0, True, [4], []),
        (1.0, 1.0, False, [8], [4]),
        (1.0, 0.0, False, [4], []),
    ],
)
def test_a_network_is_asked_only_what_a_term_needs(
    label_share: float,
    dust_weight: float,
    is_known: bool,
    student_passes: list[int],
    teacher_passes: list[int],
) -> None:
    """One joint pass of each; nothing that is known or, in plain training, not used."""
    student, teacher = Recorder(build_tiny_cnn(1)), Recorder(build_tiny_cnn(2).eval())
    config = DistillationConfig(label_share=label_share, dust_weight=dust_weight)
    terms_of(config, student, teacher, torch.zeros(4, 3) if is_known else None)

    assert student_passes == student.passes
    assert teacher_passes == teacher.passes


@pytest.mark.parametrize("shape", [(6, 1, 5, 5), (6, 7)])
def test_mixed_dust_blends_each_input_with_another(shape: tuple[int, ...]) -> None:
    """Every dusted input lies between an input and its partner, each partner is taken once."""
    rng = torch.Generator().manual_seed(4)
    inputs = torch.randn(shape, generator=rng)
    seen: list[Tensor] = []

    class Keeper(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs.flatten(1)[:, :3]

    batch = Batch(inputs=inputs, labels=torch.zeros(6).long(), places=None, is_augmented=False)  # type: ignore[arg-type] # not used
    loss_terms(
        DistillationConfig(dust="mixed", label_share=1),
        batch,
        student=Keeper(),
        teacher=Keeper(),
        answers_BK=None,
        sigma=None,
        generator=torch.Generator().manual_seed(1),
    )
    draws = torch.Generator().manual_seed(1)
    partners, shares = torch.randperm(6, generator=draws), torch.rand(6, generator=draws)
    expected = [
        (1 - share) * inputs[n] + share * inputs[partner]
        for n, (partner, share) in enumerate(zip(partners, shares, strict=True))
    ]

    torch.testing.assert_close(torch.stack(expected), seen[0][6:])
    assert torch.equal(inputs, seen[0][:6])
    assert torch.equal(seen[0][6:], seen[1])


def test_half_of_a_batch_is_mixed_and_half_gets_noise() -> None:
    """Both kinds of dust: the first half lies between two inputs, the rest is noise around them."""
    dusted = dusted_by(DistillationConfig(dust="both"))
    noisy = dusted_by(DistillationConfig(dust="noise"))
    smallest, largest = BATCH.inputs.amin(dim=0), BATCH.inputs.amax(dim=0)
    half = len(BATCH.inputs) // 2

    assert bool((dusted[:half] >= smallest - 1e-6).all())
    assert bool((dusted[:half] <= largest + 1e-6).all())
    assert torch.equal(noisy[half:], dusted[half:])
    assert not torch.equal(noisy[:half], dusted[:half])


def test_the_split_form_weighs_dust_by_the_square_of_the_temperature() -> None:
    """Total: split loss and four times the dust at temperature 2; a label alone: at 1."""
    student, teacher = build_tiny_cnn(1).eval(), build_tiny_cnn(2).eval()
    terms = terms_of(DistillationConfig(dust_weight=0.5, temperature=2), student, teacher)
    alone = terms_of(DistillationConfig(dust_weight=0, label_share=1), student, teacher)
    split = split_loss(
        student(BATCH.inputs),
        teacher(BATCH.inputs),
        BATCH.labels,
        label_share=0.5,
        temperature=2,
    )

    torch.testing.assert_close(split, terms["fused"])
    torch.testing.assert_close(split + 2 * terms["dust"], terms["total"])
    torch.testing.assert_close(F.cross_entropy(student(BATCH.inputs), BATCH.labels), alone["fused"])


def dusted_by(config: DistillationConfig) -> Tensor:
    """Return what a batch looks like dusted, as its student sees it."""
    seen: list[Tensor] = []

    class Keeper(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs.flatten(1)[:, :3]

    loss_terms(
        config,
        BATCH,
        student=Keeper(),
        teacher=Keeper(),
        answers_BK=None,
        sigma=0.5,
        generator=torch.Generator().manual_seed(1),
    )
    return seen[0][len(BATCH.inputs) :]


def test_gradients_reach_the_student_only() -> None:
    """The teacher is a constant of the loss, even where its parameters could have gradients."""
    student, teacher = build_tiny_cnn(1), build_tiny_cnn(2).eval()
    terms_of(DistillationConfig(), student, teacher)["total"].backward()

    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_dust_without_a_strength_is_refused() -> None:
    """The error says what is missing."""
    with pytest.raises(ValueError, match="sigma: None"):
        loss_terms(
            DistillationConfig(dust="noise"),
            BATCH,
            student=build_tiny_cnn(1),
            teacher=build_tiny_cnn(2),
            answers_BK=None,
            sigma=None,
            generator=torch.Generator(),
        )
