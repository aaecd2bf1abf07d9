"""Tests of remembered answers: those that a teacher would give now, asked for once."""

import torch
from tiny_networks import IMAGE_PREPROCESSING, TinyCnn, build_tiny_cnn, image_task
from torch import Tensor, nn

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.batches import Batches
from teacherd.models.draws import Draws
from teacherd.models.placement import Placement
from teacherd.models.teacher_answers import TeacherAnswers

PLACEMENT = Placement(device=torch.device("cpu"))


def build(teacher: nn.Module, augmentation: AugmentationConfig) -> tuple[TeacherAnswers, Batches]:
    """Return the answers to a task of nine images in batches of four at most."""
    batches = Batches(
        image_task(9),
        batch_size=4,
        augmentation=augmentation,
        preprocessing=IMAGE_PREPROCESSING,
        draws=Draws(seed=0, task=1),
        placement=PLACEMENT,
    )
    return TeacherAnswers(teacher, batches=batches, placement=PLACEMENT), batches


class CountingCnn(TinyCnn):
    """Counts its passes."""

    num_passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Count and answer."""
        self.num_passes += 1
        return super().forward(inputs)


def test_answers_are_the_teachers_and_asked_for_once() -> None:
    """For each batch of two epochs what the teacher says about it, from one pass."""
    teacher = CountingCnn().eval()
    answers, batches = build(teacher, AugmentationConfig())
    for step in range(6):
        batch = batches.batch(step)
        found = answers.of(batch)

        assert found is not None
        assert not found.requires_grad
        torch.testing.assert_close(super(CountingCnn, teacher).forward(batch.inputs), found)
    assert 1 == teacher.num_passes


def test_a_teacher_that_changed_is_asked_again() -> None:
    """After `forget` the answers are the new ones."""
    teacher = build_tiny_cnn().eval()
    answers, batches = build(teacher, AugmentationConfig())
    batch = batches.batch(0)
    answers.of(batch)
    with torch.no_grad():
        teacher.head.bias.add_(5.0)
    answers.forget()

    torch.testing.assert_close(teacher(batch.inputs), answers.of(batch))


def test_about_augmented_instances_nothing_is_known() -> None:
    """They are new each time, so there is no answer to remember."""
    answers, batches = build(build_tiny_cnn().eval(), AugmentationConfig(crop_padding=1))

    assert answers.of(batches.batch(0)) is None
