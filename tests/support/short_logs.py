"""A short lineage: three versions over two partitions, with a held task between the last two."""

from teacherd.daemon.entries import ClosedRange, Entry, Open, Outcome, Plan

OPEN = Open(lineage="a1", seed=7, sha256="00", classes=("cat", "dog"))


def task(
    number: int, head: int, *ranges: tuple[int, int, int], result: str = "accepted"
) -> list[Entry]:
    """Return plan and outcome of a task over ranges (partition, start, end)."""
    closed = tuple(
        ClosedRange(
            topic="t", partition=partition, start=start, end=end, count=end - start, digest="d"
        )
        for partition, start, end in ranges
    )
    plan = Plan(
        task=number,
        cause="count",
        head=head,
        seed=7,
        epochs=1,
        learning_rate=0.1,
        num_instances=1,
        ranges=closed,
    )
    if result == "accepted":
        return [plan, Outcome(task=number, result="accepted", version=head + 1, sha256="0")]
    return [plan, Outcome(task=number, result="held")]


ENTRIES = [
    OPEN,
    *task(1, 0, (0, 0, 5)),
    *task(2, 1, (0, 5, 7), (1, 0, 4)),
    *task(3, 2, (0, 7, 9), result="held"),
    *task(4, 2, (0, 9, 9), (1, 4, 8)),
]
