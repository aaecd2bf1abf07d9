"""The task matrix: what a textbook's formulas say of rows that were written out, and bounded."""

import pytest

from teacherd.daemon.entries import Outcome
from teacherd.daemon.task_matrix import TaskMatrix


def accepted(task: int, **accuracies: float) -> Outcome:
    """Return the outcome of a task, with accuracies by the task of the holdout (`of_1=0.9`)."""
    figures = {f"holdout.{name.removeprefix('of_')}": at for name, at in accuracies.items()}
    return Outcome(task=task, result="accepted", version=task, sha256="f", figures=figures)


def test_forgetting_and_backward_transfer_are_those_of_the_formulas() -> None:
    """R[T, j] against the best before, and against R[j, j]; the task itself is not among them."""
    matrix = TaskMatrix()
    for outcome in (
        accepted(1, of_1=0.8, of_base=0.9),
        accepted(2, of_1=0.9, of_2=0.7),
        accepted(3, of_1=0.85, of_2=0.6, of_3=0.5),
    ):
        matrix.apply(outcome)

    assert {1: pytest.approx(0.05), 2: pytest.approx(0.1)} == matrix.forgetting
    assert pytest.approx(0.075) == matrix.mean_forgetting
    assert pytest.approx((0.05 - 0.1) / 2) == matrix.backward_transfer


def test_there_is_nothing_to_say_before_a_second_task() -> None:
    """No earlier task, no transfer: None is not 0, which would say that nothing was lost."""
    matrix = TaskMatrix()

    assert (None, None) == (matrix.mean_forgetting, matrix.backward_transfer)

    matrix.apply(accepted(1, of_1=0.8))

    assert ({}, None, None) == (matrix.forgetting, matrix.mean_forgetting, matrix.backward_transfer)


def test_a_held_task_changes_nothing() -> None:
    """Its candidate is nobody's teacher; its holdout is one that no version was first seen on."""
    matrix = TaskMatrix()
    matrix.apply(accepted(1, of_1=0.8))
    matrix.apply(Outcome(task=2, result="held", figures={"holdout.1": 0.1, "holdout.2": 0.2}))
    matrix.apply(accepted(3, of_1=0.7, of_2=0.9, of_3=0.9))

    assert {1: pytest.approx(0.1), 2: 0.0} == matrix.forgetting
    assert pytest.approx(-0.1) == matrix.backward_transfer


def test_a_holdout_that_is_used_no_more_is_forgotten() -> None:
    """What is kept is bounded by the holdouts in use, whatever the age of the lineage."""
    matrix = TaskMatrix()
    for task in range(1, 1000):
        used = {f"of_{each}": 0.5 for each in range(max(1, task - 2), task + 1)}
        matrix.apply(accepted(task, **used))

    assert {997: 0.0, 998: 0.0} == matrix.forgetting
    assert 3 == len(matrix._at_first) == len(matrix._best)
