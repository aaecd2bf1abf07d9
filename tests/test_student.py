"""Tests of the student: modes of BatchNorm, clipping, and a step that is undone."""

import pytest
import torch
from tiny_networks import build_tiny_cnn

from teacherd.models.optimizer import OptimizerConfig
from teacherd.models.student import BatchNormMode, Student

IMAGES = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def build_student(batch_norm: BatchNormMode = "frozen", gradient_clip: float = 1.0) -> Student:
    """Return a student of the tiny network, which was frozen as a teacher is."""
    return Student(
        OptimizerConfig(gradient_clip=gradient_clip),
        network=build_tiny_cnn().eval().requires_grad_(requires_grad=False),
        batch_norm=batch_norm,
        learning_rate=0.1,
    )


def test_a_students_parameters_are_all_trained() -> None:
    """A copy of a frozen teacher is no longer frozen."""
    assert all(parameter.requires_grad for parameter in build_student().network.parameters())


@pytest.mark.parametrize(
    ("batch_norm", "num_instances", "expected"),
    [("frozen", 4, False), ("train", 4, True), ("train", 1, False)],
)
def test_batch_norm_trains_only_where_it_may(
    batch_norm: BatchNormMode, num_instances: int, expected: bool
) -> None:
    """By setting, and never on one instance; the rest of the network always trains."""
    student = build_student(batch_norm)
    student.prepare(num_instances)
    modules = dict(student.network.named_modules())

    assert modules["dropout"].training
    assert expected == modules["norm"].training


@pytest.mark.parametrize("gradient_clip", [1e-3, 1e3])
def test_the_gradient_is_clipped_by_its_norm(gradient_clip: float) -> None:
    """The norm before is reported; afterwards it is at most the bound, else unchanged."""
    student = build_student(gradient_clip=gradient_clip)
    student.prepare(4)
    student.backward(student.network(IMAGES).square().mean())
    norm = float(student.clip()["gradient"])
    left = [parameter.grad.norm() for parameter in student.network.parameters()]  # type: ignore[union-attr] # backward set it

    assert min(norm, gradient_clip) == pytest.approx(float(torch.stack(left).norm()), rel=1e-3)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_an_undone_step_leaves_nothing(batch_norm: BatchNormMode) -> None:
    """Statistics that the forward pass moved go back, and no gradient is left for later."""
    student = build_student(batch_norm)
    before = student.state_dict()
    student.prepare(4)
    student.backward(student.network(IMAGES).square().mean())
    watched = student.clip()
    student.undo()
    after = student.state_dict()

    assert (batch_norm == "train") == ("statistics" in watched)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in student.network.parameters())


def test_buffers_that_are_no_numbers_do_not_disturb_the_training_of_statistics() -> None:
    """A network may keep a mask, which has no magnitude."""
    network = build_tiny_cnn()
    network.register_buffer("mask", torch.ones(2, dtype=torch.bool))
    student = Student(OptimizerConfig(), network=network, batch_norm="train", learning_rate=0.1)
    student.prepare(4)
    student.backward(network(IMAGES).square().mean())

    assert "statistics" in student.clip()


def test_batch_norm_without_statistics_has_none_to_watch() -> None:
    """It normalises by the batch alone, in either mode."""
    network = build_tiny_cnn()
    network.norm = torch.nn.BatchNorm2d(4, track_running_stats=False)
    student = Student(OptimizerConfig(), network=network, batch_norm="train", learning_rate=0.1)
    student.prepare(4)
    student.backward(network(IMAGES).square().mean())

    assert ["gradient"] == list(student.clip())


def test_statistics_that_overflow_are_seen() -> None:
    """An infinite variance makes a finite loss; the watched number is infinite all the same."""
    student = build_student("train")
    student.prepare(4)
    loss = student.network(IMAGES * 1e30).square().mean()
    student.backward(loss)
    watched = student.clip()

    assert bool(loss.detach().isfinite())
    assert not bool(watched["statistics"].isfinite())
