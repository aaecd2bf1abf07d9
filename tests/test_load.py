"""The load: arrival rate, cost of learning, epochs that can be afforded, time until deletion."""

import math

import pytest
from assemblies import Clock

from teacherd.consumers.record import Partition
from teacherd.consumers.source import Lag, Retention
from teacherd.daemon.entries import ClosedRange, Plan
from teacherd.daemon.load import Load
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard

FIRST, SECOND = Partition("t", 0), Partition("t", 1)


class Setup:
    """A load with its clock, board and metrics."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.board = StatusBoard(monotonic=self.clock)
        self.load = Load(
            metrics=self.metrics, board=self.board, now=self.clock, monotonic=self.clock
        )

    def arrive(
        self,
        seconds: float = 0.0,
        *,
        retention: Retention = Retention(),  # noqa: B008 (a frozen value)
        waiting: int = 0,
        **ends: int,
    ) -> None:
        """Let time pass, then say where the partitions end."""
        self.clock.seconds += seconds
        numbered = {Partition("t", int(name[1:])): end for name, end in ends.items()}
        self.load.observe(
            {each: Lag(waiting, None) for each in numbered},
            {each: end - waiting for each, end in numbered.items()},
            retention=retention,
            mean_record_bytes=100.0,
        )

    def value(self, name: str) -> float | None:
        """Return a metric."""
        return self.metrics.registry.get_sample_value(f"teacherd_{name}")

    def choose(self, *, floor: int | None = 2, is_largest: bool = True, waiting: int = 500) -> int:
        """Choose the epochs of a task of 100 records, ten as usual."""
        return self.load.choose_epochs(
            10, floor, is_largest=is_largest, num_records=100, waiting=waiting
        )


@pytest.fixture
def setup() -> Setup:
    """Give a load of which nothing is known."""
    return Setup()


def plan(*, epochs: int = 10) -> Plan:
    """Return the plan of a task of 100 records."""
    closed = ClosedRange(topic="t", partition=0, start=0, end=100, count=100, digest="d")
    return Plan(
        task=1,
        cause="count",
        head=0,
        seed=0,
        epochs=epochs,
        learning_rate=0.1,
        num_instances=90,
        ranges=(closed,),
    )


def test_headroom_is_the_rate_of_learning_by_that_of_arrival(setup: Setup) -> None:
    """Infinite while either is unknown: an alert on less than 1 stays quiet."""
    assert math.inf == setup.value("learning_headroom_ratio")

    setup.arrive(p0=1000)
    setup.choose()
    setup.load.learned(plan(), 20.0)
    setup.arrive(10.0, p0=1100)

    assert 10.0 == setup.board.snapshot()["load"]["arriving_records_per_second"]
    assert pytest.approx(5.0) == setup.board.snapshot()["load"]["learning_records_per_second"]
    assert pytest.approx(0.5) == setup.value("learning_headroom_ratio")


def test_what_was_there_at_the_start_has_not_arrived(setup: Setup) -> None:
    """Neither a backlog, nor what lies in a partition that is found later."""
    setup.arrive(p0=1_000_000)
    setup.arrive(10.0, p0=1_000_000, p1=5_000)
    setup.arrive(10.0, p0=1_000_000, p1=5_000)

    assert 0.0 == setup.board.snapshot()["load"]["arriving_records_per_second"]
    assert setup.board.snapshot()["load"]["headroom_ratio"] is None


def test_old_arrivals_are_forgotten(setup: Setup) -> None:
    """The rate follows what has come in the last two minutes."""
    for second in range(300):
        setup.arrive(1.0, p0=min(second, 100) * 60)

    assert 0.0 == setup.board.snapshot()["load"]["arriving_records_per_second"]


def test_epochs_shrink_to_what_the_arrivals_leave_time_for(setup: Setup) -> None:
    """20 s for ten epochs of 100 records, 10 records a second: half of them, and some less."""
    setup.arrive(p0=0)
    setup.load.learned(plan(), 20.0)
    setup.arrive(10.0, p0=100)

    assert 4 == setup.choose()
    assert 4.0 == setup.value("task_epochs")

    setup.arrive(10.0, p0=100_000)

    assert 2 == setup.choose()


def test_epochs_stay_where_nothing_else_is_wanted(setup: Setup) -> None:
    """No floor, a task that can grow, nothing that waits, or enough time."""
    setup.arrive(p0=0)

    assert 10 == setup.choose()

    setup.load.learned(plan(), 20.0)
    setup.arrive(10.0, p0=100)

    assert 10 == setup.choose(floor=None)
    assert 10 == setup.choose(is_largest=False)
    assert 10 == setup.choose(waiting=99)

    setup.load.learned(plan(), 0.001)
    for _ in range(30):
        setup.load.learned(plan(), 0.001)

    assert 10 == setup.choose()


def test_records_that_were_not_read_yet_wait_too(setup: Setup) -> None:
    """A small buffer does not hide a long log."""
    setup.arrive(p0=0)
    setup.load.learned(plan(), 20.0)
    setup.arrive(10.0, p0=100, waiting=100)

    assert 4 == setup.choose(waiting=0)


def test_the_cost_of_an_epoch_does_not_depend_on_how_many_there_were(setup: Setup) -> None:
    """A task of few epochs says as much as one of many."""
    setup.arrive(p0=0)
    setup.load.learned(plan(epochs=5), 10.0)
    setup.arrive(10.0, p0=100)

    assert 4 == setup.choose()


def test_the_margin_is_what_is_left_of_the_retention(setup: Setup) -> None:
    """By age and by bytes of the fastest partition, whichever deletes first."""
    setup.board.update("task", oldest_timestamp_ms=int(setup.clock.seconds * 1000) - 30_000)
    setup.arrive(p0=0, p1=0)

    assert math.inf == setup.value("retention_margin_seconds")

    setup.arrive(10.0, p0=100, p1=20, retention=Retention(seconds=100.0))

    assert 60.0 == setup.value("retention_margin_seconds")

    retention = Retention(seconds=100.0, num_bytes=50_000)
    setup.arrive(0.0, p0=100, p1=20, retention=retention)

    assert 10.0 == setup.value("retention_margin_seconds")
    assert 10.0 == setup.board.snapshot()["load"]["retention_margin_seconds"]
