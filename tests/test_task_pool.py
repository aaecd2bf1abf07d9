"""The task pool: runs of increments, and the classes in them."""

import pytest

from teacherd.models.task_pool import TaskPool


def test_contiguous_groups_are_all_runs_of_increments() -> None:
    """N (n + 1) / 2 of them, each with the classes of its increments."""
    pool = TaskPool((3, 1, 2))
    groups = [tuple(pool.classes(group)) for group in range(len(pool))]

    assert 6 == len(pool) == pool.num_classes
    assert [(0, 1, 2), (3,), (4, 5), (0, 1, 2, 3), (3, 4, 5), (0, 1, 2, 3, 4, 5)] == groups


def test_increments_alone_are_task_wise_distillation() -> None:
    """One group for each."""
    pool = TaskPool((3, 1, 2), kind="increments")

    assert [range(3), range(3, 4), range(4, 6)] == [pool.classes(g) for g in range(len(pool))]


def test_a_pool_grows_by_an_increment() -> None:
    """Its kind stays."""
    pool = TaskPool((3,), kind="increments").grown(2)

    assert ((3, 2), "increments") == (pool.increments, pool.kind)


@pytest.mark.parametrize("increments", [(), (3, 0)])
def test_an_empty_increment_is_refused(increments: tuple[int, ...]) -> None:
    """No softmax is over nothing."""
    with pytest.raises(ValueError, match=r"increments: .* at least one class"):
        TaskPool(increments)
