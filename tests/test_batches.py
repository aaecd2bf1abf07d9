"""Tests of batches: everyone once an epoch, evenly, and functions of the step alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import FEATURE_PREPROCESSING, IMAGE_PREPROCESSING, feature_task, image_task

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.batches import Batches
from teacherd.models.draws import Draws
from teacherd.models.placement import Placement
from teacherd.models.task import Task

SHIFTED = AugmentationConfig(crop_padding=1)


def build_batches(
    task: Task, batch_size: int, augmentation: AugmentationConfig | None = None
) -> Batches:
    """Return the batches of a task on the CPU."""
    return Batches(
        task,
        batch_size=batch_size,
        augmentation=augmentation or AugmentationConfig(),
        preprocessing=IMAGE_PREPROCESSING if task.inputs.ndim == 4 else FEATURE_PREPROCESSING,
        draws=Draws(seed=1, task=task.number),
        placement=Placement(device=torch.device("cpu")),
    )


@given(num_instances=st.integers(1, 60), batch_size=st.integers(1, 20), epoch=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_an_epoch_visits_everyone_once_in_even_batches(
    num_instances: int, batch_size: int, epoch: int
) -> None:
    """As few batches as the size allows, and their sizes differ by one at most."""
    task = feature_task(num_instances)
    batches = build_batches(task, batch_size)
    steps = range(epoch * batches.num_steps_per_epoch, (epoch + 1) * batches.num_steps_per_epoch)
    served = [batches.batch(step) for step in steps]
    sizes = [len(batch.labels) for batch in served]

    assert -(-num_instances // batch_size) == len(sizes)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    rows = torch.cat([batch.inputs for batch in served]).tolist()
    assert sorted(task.inputs.tolist()) == sorted(rows)


def test_inputs_are_normalised_and_keep_their_labels() -> None:
    """Each row is the preprocessed instance, with the label that belongs to it."""
    task = image_task(9)
    batch = build_batches(task, 4).batch(1)
    order = Draws(seed=1, task=1).permutation(0, 9)[3:6]

    torch.testing.assert_close(
        (torch.from_numpy(task.inputs)[order] / 255 - 0.5) / 0.3, batch.inputs
    )
    assert task.labels[order.numpy()].tolist() == batch.labels.tolist()


def test_a_step_has_its_batch_in_whatever_order_steps_are_asked_for() -> None:
    """A resumed task sees what it would have seen, augmentation included."""
    forward, alone = (
        build_batches(image_task(9), 4, SHIFTED),
        build_batches(image_task(9), 4, SHIFTED),
    )
    served = [forward.batch(step) for step in range(6)]

    for step in (5, 0, 3):
        batch = alone.batch(step)
        assert torch.equal(served[step].inputs, batch.inputs)
        assert torch.equal(served[step].labels, batch.labels)


def test_augmentation_moves_images_anew_each_epoch() -> None:
    """One image, one batch: two epochs show it in different places."""
    batches = build_batches(image_task(1), 4, SHIFTED)
    shown = {batches.batch(step).inputs.numpy().tobytes() for step in range(10)}

    assert len(shown) > 3


def test_feature_vectors_cannot_be_augmented() -> None:
    """The error names the section and what to do."""
    with pytest.raises(ValueError, match="augmentation: can change images only"):
        build_batches(feature_task(3), 4, SHIFTED)


def test_a_sample_is_drawn_without_repetition_and_cut_to_what_there_is() -> None:
    """At most so many instances, each once, the same ones whenever it is asked for."""
    task = feature_task(10)
    some = torch.cat(list(build_batches(task, 4).sample(7, batch_size=3))).tolist()
    everyone = torch.cat(list(build_batches(task, 4).sample(99, batch_size=3))).tolist()

    assert some == everyone[:7]
    assert sorted(task.inputs.tolist()) == sorted(everyone)
