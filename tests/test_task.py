"""Tests of tasks and schedules: what they refuse before a single step is made."""

import numpy as np
import numpy.typing as npt
import pytest

from teacherd.models.task import Schedule, Task

IMAGES = np.zeros((3, 1, 4, 4), dtype=np.uint8)
LABELS = np.zeros(3, dtype=np.int64)


@pytest.mark.parametrize("inputs", [IMAGES, np.zeros((3, 5), dtype=np.float32)])
def test_images_and_feature_vectors_make_tasks(inputs: npt.NDArray[np.generic]) -> None:
    """The two forms that decoding gives are taken as they are, without a copy."""
    task = Task(number=1, inputs=inputs, labels=LABELS)

    assert task.inputs is inputs


@pytest.mark.parametrize(
    ("inputs", "labels", "named"),
    [
        (IMAGES.astype(np.float32), LABELS, "inputs"),
        (IMAGES[0], LABELS, "inputs"),
        (np.zeros((3, 5)), LABELS, "inputs"),
        (IMAGES, LABELS[:2], "labels"),
        (IMAGES, LABELS.astype(np.int32), "labels"),
        (IMAGES[:0], LABELS[:0], "inputs: no instance"),
    ],
)
def test_a_task_of_another_form_is_refused(
    inputs: npt.NDArray[np.generic], labels: npt.NDArray[np.int64], named: str
) -> None:
    """The error names what is wrong: a wrong dtype would otherwise be learned as noise."""
    with pytest.raises(ValueError, match=f"^{named}"):
        Task(number=1, inputs=inputs, labels=labels)


@pytest.mark.parametrize(
    ("epochs", "learning_rate", "named"),
    [
        (0, 0.01, "epochs"),
        (1, 0.0, "learning_rate"),
        (1, float("nan"), "learning_rate"),
        (1, float("inf"), "learning_rate"),
    ],
)
def test_a_schedule_that_cannot_learn_is_refused(
    epochs: int, learning_rate: float, named: str
) -> None:
    """No epoch or no step size is a mistake of the plan, found before the task begins."""
    with pytest.raises(ValueError, match=f"^{named}"):
        Schedule(seed=0, epochs=epochs, learning_rate=learning_rate)
