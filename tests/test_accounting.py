"""The accounting that tests and benchmarks rely on: it must find what it is there to find."""

from accounting import account

from teacherd.consumers.record import Partition
from teacherd.daemon.entries import ClosedRange, Entry, Outcome, Plan, Skip

PARTITION = Partition("t", 0)


def plan(task: int, start: int, end: int, *, rejected: tuple[int, ...] = ()) -> Plan:
    """Return a plan of one range of t/0."""
    closed = ClosedRange(
        topic="t",
        partition=0,
        start=start,
        end=end,
        count=end - start,
        digest="d",
        rejected=rejected,
    )
    return Plan(
        task=task,
        cause="count",
        head=0,
        seed=7,
        epochs=1,
        learning_rate=0.1,
        num_instances=end - start,
        ranges=(closed,),
    )


ENTRIES: list[Entry] = [
    plan(1, 0, 5, rejected=(3,)),
    Outcome(task=1, result="accepted"),
    Skip(topic="t", partition=0, start=5, end=7, reason="retention"),
    plan(2, 7, 9),
    Outcome(task=2, result="quarantined"),
    plan(3, 9, 10),
]
LETTERS = [(PARTITION, 3)]


def test_every_record_below_the_place_has_one_fate() -> None:
    """Offsets without a record are gaps; records at or beyond the place are not decided yet."""
    found = account(ENTRIES, records={PARTITION: [0, 1, 3, 4, *range(5, 12)]}, letters=LETTERS)

    assert ([], []) == (found.lost, found.twice)
    assert {
        "trained": 3,
        "rejected": 1,
        "skipped": 2,
        "quarantined": 2,
        "unfinished": 1,
    } == found.fates
    assert {PARTITION: 10} == found.places


def test_a_record_that_no_entry_names_is_lost() -> None:
    """A hole between two plans, and one at the beginning that nothing explains."""
    found = account([plan(1, 2, 5), plan(2, 6, 9)], records={PARTITION: range(1, 9)}, letters=[])

    assert [(PARTITION, 1), (PARTITION, 5)] == found.lost
    assert [(PARTITION, 5)] == account(
        [plan(1, 2, 5), plan(2, 6, 9)],
        records={PARTITION: range(1, 9)},
        letters=[],
        begins={PARTITION: 2},
    ).lost


def test_a_rejected_record_without_dead_letter_is_lost() -> None:
    """The plan says that it is there; nobody could look at it."""
    assert [(PARTITION, 3)] == account(ENTRIES, records={PARTITION: range(12)}, letters=[]).lost


def test_a_partition_that_was_made_anew_begins_anew() -> None:
    """A skip that runs backwards says so: the same offsets are other records now."""
    entries = [
        plan(1, 0, 5),
        Outcome(task=1, result="accepted"),
        Skip(topic="t", partition=0, start=5, end=0, reason="made anew"),
        plan(2, 0, 3),
    ]
    found = account(entries, records={PARTITION: range(4)}, letters=[])

    assert ([], [], {PARTITION: 3}) == (found.lost, found.twice, found.places)


def test_a_record_of_two_plans_is_there_twice() -> None:
    """Also one that was learned and is a dead letter."""
    overlapping = [plan(1, 0, 5), plan(2, 4, 6)]
    learned = account(ENTRIES, records={PARTITION: range(12)}, letters=[*LETTERS, (PARTITION, 2)])

    assert [(PARTITION, 4)] == account(overlapping, records={PARTITION: range(6)}, letters=[]).twice
    assert [(PARTITION, 2)] == learned.twice
