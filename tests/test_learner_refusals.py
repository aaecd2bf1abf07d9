"""Tests of what a learner refuses: numbers that are not finite, labels, calls out of order."""

import numpy as np
import pytest
from learning_task import FINE_TUNING, FIVE_EPOCHS, SGD, are_equal, build_learner, tensors
from tiny_networks import (
    FEATURE_PREPROCESSING,
    feature_task,
    image_task,
)
from torch import Tensor, nn

from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.non_finite import NonFiniteError
from teacherd.models.task import Task


def poisoned_task() -> Task:
    """Return a task of which one instance overflows, in the second batch of the first epoch."""
    task = feature_task(8)
    task.inputs[0] = np.float32(3e38)
    return task


@pytest.mark.parametrize(
    ("batch_norm", "distillation", "term"),
    [
        ("frozen", DistillationConfig(), "fused"),
        ("frozen", DistillationConfig(label_share=1, dust_weight=0), "fused"),
        ("train", DistillationConfig(), "fused"),
        ("train", DistillationConfig(label_share=1, dust_weight=0), "statistics"),
    ],
)
def test_a_loss_that_is_not_finite_stops_before_the_step(
    batch_norm: str, distillation: DistillationConfig, term: str
) -> None:
    """The error names task, step and term; student, candidate and progress are as before."""
    config = LearnerConfig(
        batch_size=4,
        batch_norm=batch_norm,  # type: ignore[arg-type] # parametrised
        optimizer=SGD,
        distillation=distillation,
    )
    linear = nn.Linear(4, 3)
    nn.init.constant_(linear.weight, 2.0)
    network = nn.Sequential(nn.BatchNorm1d(4), linear)
    learner = build_learner(config, teacher=network, preprocessing=FEATURE_PREPROCESSING)
    learner.begin(poisoned_task(), FIVE_EPOCHS)
    learner.step()
    before = learner.state_dict()
    with pytest.raises(NonFiniteError) as caught:
        learner.step()

    assert term == caught.value.term
    assert f"task 1, step 1: {term} is" in str(caught.value)
    assert 1 == learner.num_steps_done
    assert are_equal(before, learner.state_dict())


def test_a_gradient_that_is_not_finite_stops_before_the_step_too() -> None:
    """A finite loss can have an infinite slope; it is named the gradient's."""

    class SquareRoot(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return (super().forward(inputs) * 0).sqrt()

    learner = build_learner(
        FINE_TUNING, teacher=SquareRoot(4, 3), preprocessing=FEATURE_PREPROCESSING
    )
    learner.begin(feature_task(8), FIVE_EPOCHS)
    before = tensors(learner.student)
    with pytest.raises(NonFiniteError, match="task 1, step 0: gradient is nan"):
        learner.step()

    assert are_equal(before, tensors(learner.student))


def test_an_unknown_label_is_refused_before_anything_begins() -> None:
    """A label beyond the teacher's classes is an error by name, not a crash on the device."""
    task = Task(number=1, inputs=image_task(3).inputs, labels=np.array([0, 3, 1], dtype=np.int64))
    learner = build_learner()
    with pytest.raises(ValueError, match="labels: 3: the network knows classes 0 to 2"):
        learner.begin(task, FIVE_EPOCHS)

    assert 0 == learner.num_steps


def test_the_calls_of_a_task_have_an_order() -> None:
    """Asking for what there is not is a mistake of the caller, said in words."""
    learner = build_learner()
    for call in (learner.step, learner.finish, learner.accept, learner.discard, learner.state_dict):
        with pytest.raises(RuntimeError, match="no task is in progress"):
            call()
    learner.begin(image_task(8), FIVE_EPOCHS)
    with pytest.raises(RuntimeError, match="task 1 is in progress"):
        learner.begin(image_task(8), FIVE_EPOCHS)
    with pytest.raises(RuntimeError, match="10 steps are left"):
        learner.finish()


@pytest.mark.parametrize("field", ["epochs", "batch_size"])
def test_a_configuration_without_work_is_refused(field: str) -> None:
    """The error names field and value."""
    with pytest.raises(ValueError, match=f"^{field}: 0: must be at least 1"):
        LearnerConfig(**{field: 0})
