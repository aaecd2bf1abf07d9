"""Tests of a learner's state inside a task: what is resumed ends as what was never interrupted."""

import pytest
import safetensors.torch
from learning_task import (
    FINE_TUNING,
    FIVE_EPOCHS,
    METHOD,
    SGD,
    are_equal,
    build_learner,
    result_of,
    tensors,
)
from tiny_networks import (
    FEATURE_PREPROCESSING,
    build_tiny_linear,
    feature_task,
    image_task,
)

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.optimizer import OptimizerConfig


@pytest.mark.parametrize("num_steps", [0, 1, 6, 7, 14, 15])
@pytest.mark.parametrize(("kind", "dust"), [("sgd", "noise"), ("adamw", "mixed")])
def test_a_resumed_task_ends_as_one_that_was_never_interrupted(
    num_steps: int, kind: str, dust: str
) -> None:
    """At any step, through safetensors, bit for bit: weights, losses and the rest of the report."""
    config = LearnerConfig(
        batch_size=4,
        batch_norm="train",
        optimizer=OptimizerConfig(kind=kind),  # type: ignore[arg-type] # parametrised
        distillation=DistillationConfig(dust=dust),  # type: ignore[arg-type] # the same
        consolidation=ConsolidationConfig(
            kind="spatial_temporal", freezing_epochs=1, interval_epochs=1
        ),
    )
    task = image_task(10)
    straight = build_learner(config, sigma=None)
    expected = straight.learn(task, FIVE_EPOCHS)
    broken = build_learner(config, sigma=None)
    broken.begin(task, FIVE_EPOCHS)
    for _ in range(num_steps):
        broken.step()
    saved = safetensors.torch.save(broken.state_dict())

    resumed = build_learner(config, sigma=None)
    resumed.begin(task, FIVE_EPOCHS)
    resumed.load_state_dict(safetensors.torch.load(saved))
    while resumed.step():
        pass

    assert expected == resumed.finish()
    assert are_equal(tensors(straight.candidate), tensors(resumed.candidate))
    assert are_equal(tensors(straight.student), tensors(resumed.student))


def test_a_task_without_dust_resumes_without_a_strength_of_it() -> None:
    """Nothing was calibrated, so the state holds nothing of the kind, and none appears."""
    learner = build_learner(FINE_TUNING, sigma=None)
    learner.begin(image_task(10), FIVE_EPOCHS)
    learner.step()
    state = learner.state_dict()
    learner.load_state_dict(state)

    assert "sigma" not in state
    assert learner.sigma is None


def test_a_state_is_a_copy() -> None:
    """What was saved does not move with the training that goes on."""
    learner = build_learner()
    learner.begin(image_task(10), FIVE_EPOCHS)
    learner.step()
    state = learner.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    learner.step()

    assert are_equal(before, state)


def test_a_state_of_another_task_or_network_is_refused() -> None:
    """Going on with foreign weights would learn nonsense in silence."""
    learner = build_learner()
    learner.begin(image_task(10), FIVE_EPOCHS)
    state = learner.state_dict()
    learner.discard()
    learner.begin(image_task(10, number=2), FIVE_EPOCHS)
    with pytest.raises(ValueError, match="the state is of task 1"):
        learner.load_state_dict(state)
    linear = build_learner(
        teacher=build_tiny_linear(), preprocessing=FEATURE_PREPROCESSING, sigma=0.5
    )
    linear.begin(feature_task(10), FIVE_EPOCHS)
    with pytest.raises(ValueError, match="another network"):
        linear.load_state_dict(state)


def test_learning_with_augmentation_ends_elsewhere_and_resumes_too() -> None:
    """Images are changed by keyed draws, so an interruption changes nothing here either."""
    config = LearnerConfig(
        batch_size=4,
        optimizer=SGD,
        augmentation=AugmentationConfig(crop_padding=1, horizontal_flip=True),
        consolidation=METHOD.consolidation,
    )
    task = image_task(10)
    expected = result_of(build_learner(config), task)
    broken, resumed = build_learner(config), build_learner(config)
    broken.begin(task, FIVE_EPOCHS)
    for _ in range(10):
        broken.step()
    resumed.begin(task, FIVE_EPOCHS)
    resumed.load_state_dict(broken.state_dict())
    while resumed.step():
        pass

    assert are_equal(expected, tensors(resumed.candidate))
    assert not are_equal(expected, result_of(build_learner(), task))
