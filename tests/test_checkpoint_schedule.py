"""When a checkpoint inside a task is due."""

from teacherd.daemon.checkpoint import CheckpointConfig
from teacherd.daemon.checkpoint_schedule import CheckpointSchedule


def schedule(interval_seconds: float, interval_steps: int | None = None) -> CheckpointSchedule:
    """Return one of a task that begins at second 100."""
    made = CheckpointSchedule(
        CheckpointConfig(interval_seconds=interval_seconds, interval_steps=interval_steps)
    )
    made.begin(100.0, step=0)
    return made


def test_it_is_due_by_the_clock() -> None:
    """From the beginning of the task, or from the last one."""
    by_clock = schedule(30)

    assert [False, True] == [by_clock.is_due(now, step=9) for now in (129.9, 130.0)]

    by_clock.tried(130.0, 130.1, step=9)

    assert [False, True] == [by_clock.is_due(now, step=19) for now in (160.0, 160.1)]


def test_what_costs_much_comes_less_often() -> None:
    """Two seconds of writing are 2 % of a hundred; the interval is kept where it is longer."""
    slow = schedule(30)
    slow.tried(130.0, 132.0, step=9)

    assert [False, True] == [slow.is_due(132.0 + after, step=99) for after in (99.9, 100.0)]

    slow.tried(232.0, 232.1, step=99)

    assert slow.is_due(262.1, step=100)


def test_the_cost_is_remembered_by_the_next_task() -> None:
    """The first checkpoint of a task is as dear as the last one of the task before."""
    slow = schedule(30)
    slow.tried(130.0, 132.0, step=9)
    slow.begin(200.0, step=0)

    assert not slow.is_due(230.0, step=1)


def test_steps_count_whatever_it_costs() -> None:
    """Who asks for every second step gets it."""
    by_step = schedule(1e9, interval_steps=2)

    assert [False, True] == [by_step.is_due(100.0, step=step) for step in (1, 2)]

    by_step.tried(100.0, 200.0, step=2)

    assert [False, True] == [by_step.is_due(200.0, step=step) for step in (3, 4)]
