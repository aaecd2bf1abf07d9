"""What is kept of old classes: its weight, and the losses of a batch with new ones in it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teacherd.models.batches import Batch
from teacherd.models.dense_groups import DenseGroups
from teacherd.models.distillation import loss_terms, term_names
from teacherd.models.losses import DistillationConfig
from teacherd.models.old_classes import NewClassesConfig, OldClasses
from teacherd.models.task_pool import TaskPool

CPU = torch.device("cpu")
POOL = TaskPool((2, 1))
NUM_OLD, NUM_NEW = 3, 2
LABELS = torch.tensor([0, 3, 2, 4, 1])
IS_NEW = LABELS >= NUM_OLD
BATCH = Batch(
    inputs=torch.randn(5, 6, generator=torch.Generator().manual_seed(0)),
    labels=LABELS,
    places=torch.arange(5),
    is_augmented=False,
)


def build_linear(num_classes: int, seed: int) -> nn.Linear:
    """Return a seeded network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(6, num_classes)


STUDENT, TEACHER = build_linear(NUM_OLD + NUM_NEW, 1), build_linear(NUM_OLD, 2)


def old_classes(
    config: NewClassesConfig | None = None,
    *,
    num_new: int = NUM_NEW,
    similarity: float = 0.0,
    present: tuple[int, ...] = (0, 1, 2),
) -> OldClasses:
    """Return those of the pool."""
    return OldClasses(
        config or NewClassesConfig(),
        pool=POOL,
        num_new=num_new,
        present=present,
        similarity=similarity,
        temperature=2.0,
        device=CPU,
    )


def terms_of(
    config: DistillationConfig,
    old: OldClasses,
    *,
    student: nn.Module = STUDENT,
    answers: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the terms for the batch, with dust of 0.3."""
    return loss_terms(
        config,
        BATCH,
        student=student,
        teacher=TEACHER,
        answers_BK=answers,
        sigma=0.3,
        generator=torch.Generator().manual_seed(1),
        old=old,
        group_generator=torch.Generator().manual_seed(seed),
    )


def naive_kd(student: Tensor, teacher: Tensor) -> Tensor:
    """Return L_KD of each instance, group by group, with T^2."""
    losses = []
    for group in range(len(POOL)):
        classes = list(POOL.classes(group))
        p = F.softmax(teacher[:, classes] / 2, dim=1)
        losses.append(4 * (p * (p.log() - F.log_softmax(student[:, classes] / 2, dim=1))).sum(1))
    return torch.stack(losses).mean(0)


@pytest.mark.parametrize(
    ("weighting", "num_new", "similarity", "expected"),
    [
        ("adaptive", 3, 0.0, 2.0),
        ("adaptive", 1, 0.5, 2.0 * math.sqrt(3) * 1.5),
        ("constant", 1, 0.5, 2.0),
        ("adaptive", 0, 0.0, 1.0),
        ("constant", 0, 0.0, 1.0),
    ],
)
def test_the_weight_is_that_of_the_formula(
    weighting: str, num_new: int, similarity: float, expected: float
) -> None:
    """lambda0 sqrt(old / new) (1 + s); none where no class is new."""
    config = NewClassesConfig(weight=2.0, weighting=weighting)  # type: ignore[arg-type] # parametrised

    assert expected == pytest.approx(
        old_classes(config, num_new=num_new, similarity=similarity).weight
    )


@pytest.mark.parametrize("form", ["split", "fused"])
def test_known_classes_have_fused_labels_and_new_ones_one_hot(form: str) -> None:
    """Each instance by the formula of its kind, over all classes for the label."""
    config = DistillationConfig(form=form, dust_weight=0)  # type: ignore[arg-type] # parametrised
    terms = terms_of(config, old_classes())
    z, y = STUDENT(BATCH.inputs), TEACHER(BATCH.inputs)
    expected = []
    for n, label in enumerate(LABELS.tolist()):
        soft = 2.0 if form == "fused" else 1.0
        plain = -F.log_softmax(z[n] / soft, 0)[label]
        if label >= NUM_OLD:
            expected.append(plain)
        elif form == "fused":
            target = 0.5 * F.one_hot(torch.tensor(label), 5)
            target[:NUM_OLD] += 0.5 * F.softmax(y[n] / 2, 0)
            expected.append(-(target * F.log_softmax(z[n] / 2, 0)).sum())
        else:
            p = F.softmax(y[n] / 2, 0)
            kl = (p * (p.log() - F.log_softmax(z[n] / 2, 0)[:NUM_OLD])).sum()
            expected.append(0.5 * plain + 0.5 * 4 * kl)

    torch.testing.assert_close(torch.stack(expected).mean(), terms["fused"])


@pytest.mark.parametrize("label_share", [0.5, 1.0])
def test_a_new_label_is_asked_for_among_the_classes_that_there_are(label_share: float) -> None:
    """Old classes without an instance are not denied with it; known instances deny all."""
    config = DistillationConfig(label_share=label_share, dust_weight=0)
    z, y = STUDENT(BATCH.inputs), TEACHER(BATCH.inputs)
    expected = []
    for n, label in enumerate(LABELS.tolist()):
        if label >= NUM_OLD:
            expected.append(-F.log_softmax(z[n, [1, 3, 4]], 0)[label - 2])
        else:
            p = F.softmax(y[n] / 2, 0)
            kl = (p * (p.log() - F.log_softmax(z[n] / 2, 0)[:NUM_OLD])).sum()
            plain = -F.log_softmax(z[n], 0)[label]
            expected.append(label_share * plain + (1 - label_share) * 4 * kl)

    terms = terms_of(config, old_classes(present=(1, 3, 4)))
    torch.testing.assert_close(torch.stack(expected).mean(), terms["fused"])
    everything = terms_of(config, old_classes(NewClassesConfig(labels="all"), present=(1,)))
    same = terms_of(config, old_classes())
    torch.testing.assert_close(same["fused"], everything["fused"])


def test_classes_that_are_not_asked_about_get_no_gradient_from_a_new_instance() -> None:
    """Nor a number that is not finite, in either form of the loss."""
    for form in ("split", "fused"):
        logits = torch.randn(1, 5, requires_grad=True)

        class Answer(nn.Module):
            def forward(self, _inputs: Tensor, logits: Tensor = logits) -> Tensor:
                return logits

        batch = Batch(
            inputs=BATCH.inputs[:1],
            labels=torch.tensor([4]),
            places=torch.arange(1),
            is_augmented=False,
        )
        terms = loss_terms(
            DistillationConfig(form=form, dust_weight=0),  # type: ignore[arg-type] # of both
            batch,
            student=Answer(),
            teacher=TEACHER,
            answers_BK=None,
            sigma=None,
            generator=torch.Generator(),
            old=old_classes(NewClassesConfig(weight=0), present=(3, 4)),
        )
        (slope,) = torch.autograd.grad(terms["total"], logits)

        assert torch.isfinite(slope).all()
        assert [0.0, 0.0, 0.0] == slope[0, :NUM_OLD].tolist()
        assert (slope[0, NUM_OLD:] != 0).all()


def test_the_total_is_new_plus_lambda_times_old() -> None:
    """L_new + lambda L_KD: on new instances as they are, on all of them dusted."""
    old = old_classes(similarity=0.5)
    config = DistillationConfig(dust="noise", dust_weight=0.5)
    terms = terms_of(config, old)
    noise = torch.empty_like(BATCH.inputs).normal_(
        0, 0.3, generator=torch.Generator().manual_seed(1)
    )
    dusted = BATCH.inputs + noise
    clean = (naive_kd(STUDENT(BATCH.inputs), TEACHER(BATCH.inputs)) * IS_NEW).mean()
    dust = naive_kd(STUDENT(dusted), TEACHER(dusted)).mean()

    assert term_names(config, old) == tuple(terms)
    torch.testing.assert_close(clean, 4 * terms["dense"])
    torch.testing.assert_close(dust, 4 * terms["dust"])
    torch.testing.assert_close(
        terms["fused"] + old.weight * (clean + 0.5 * dust), terms["total"], atol=1e-6, rtol=1e-5
    )


def test_without_new_classes_the_dust_is_that_of_the_groups_and_the_weight_its_own() -> None:
    """Increments of the past stay apart; fused labels are those of method.md 2.2."""
    student = build_linear(NUM_OLD, 5)
    config = DistillationConfig()
    batch = Batch(
        inputs=BATCH.inputs, labels=LABELS % NUM_OLD, places=BATCH.places, is_augmented=False
    )

    def terms(old: OldClasses | None) -> dict[str, Tensor]:
        return loss_terms(
            config,
            batch,
            student=student,
            teacher=TEACHER,
            answers_BK=None,
            sigma=0.3,
            generator=torch.Generator().manual_seed(1),
            old=old,
        )

    grouped, plain = terms(old_classes(num_new=0)), terms(None)

    assert set(grouped) == set(plain)
    torch.testing.assert_close(plain["fused"], grouped["fused"])
    assert not torch.isclose(plain["dust"], grouped["dust"])
    torch.testing.assert_close(
        grouped["fused"] + config.dust_factor * grouped["dust"], grouped["total"]
    )


def test_one_increment_is_the_divergence_over_all_old_classes() -> None:
    """So dust over a pool of one increment is ordinary dust."""
    student, teacher = torch.randn(4, 5), torch.randn(4, 3)
    old = OldClasses(
        NewClassesConfig(),
        pool=TaskPool((3,)),
        num_new=2,
        present=(),
        similarity=0.0,
        temperature=2.0,
        device=CPU,
    )
    expected = F.kl_div(
        F.log_softmax(student[:, :3] / 2, dim=1),
        F.softmax(teacher / 2, dim=1),
        reduction="none",
    ).sum(1)

    torch.testing.assert_close(expected, old.divergence(student, teacher, None))


def test_random_groups_follow_from_the_generator() -> None:
    """One group a time: the mean over many is the full loss, and one seed draws one group."""
    old = old_classes(NewClassesConfig(groups="random"))
    student, teacher = torch.randn(4, 5), torch.randn(4, 3)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([old.divergence(student, teacher, generator) for _ in range(3000)])
    each = DenseGroups(POOL).losses(student, teacher) / 4

    assert any(torch.allclose(drawn[0], each[:, group], atol=1e-6) for group in range(len(POOL)))
    torch.testing.assert_close(each.mean(1), drawn.mean(0), atol=0.1, rtol=0.1)


def test_a_weight_of_nothing_asks_the_teacher_nothing() -> None:
    """Plain training by configuration, in a task with new classes too."""

    class Unasked(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise AssertionError(f"was asked about {len(inputs)}")

    old = old_classes(NewClassesConfig(weight=0))
    config = DistillationConfig(label_share=1, dust_weight=0)
    terms = loss_terms(
        config,
        BATCH,
        student=STUDENT,
        teacher=Unasked(),
        answers_BK=None,
        sigma=None,
        generator=torch.Generator(),
        old=old,
    )

    torch.testing.assert_close(F.cross_entropy(STUDENT(BATCH.inputs), LABELS), terms["total"])


def test_a_weight_out_of_range_is_refused_by_name() -> None:
    """The error names field, value and rule."""
    with pytest.raises(ValueError, match=r"^weight: -1: must be at least 0"):
        NewClassesConfig(weight=-1)
