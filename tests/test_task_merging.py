"""Tests of making one task of the parts that several buffers hold, here or sent by another rank."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.record import Partition, Record
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_merging import merge_tasks
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.task_message import pack_task, unpack_task


def part(numbers: dict[int, list[int]], *, rejected: tuple[int, ...] = ()) -> BufferedTask:
    """Return a task with these offsets of these partitions; features say whose they are."""
    rows = [(place, at) for place, number in enumerate(numbers) for at in numbers[number]]
    names = list(numbers)
    return BufferedTask(
        cause="age",
        ranges=tuple(
            PlannedRange(
                partition=Partition("t", number),
                start=0,
                end=9,
                count=len(offsets) + len(rejected),
                digest=f"digest {number}",
                rejected=rejected,
                topic_id="id",
            )
            for number, offsets in numbers.items()
        ),
        inputs=np.array([[names[place], at] for place, at in rows], dtype=np.float32)
        if rows
        else np.empty(0, dtype=np.uint8),
        labels=np.array([at % 3 for _, at in rows], dtype=np.int64),
        partitions=np.array([place for place, _ in rows], dtype=np.int64),
        offsets=np.array([at for _, at in rows], dtype=np.int64),
        ids=tuple(b"id-\xff%d" % at if at % 2 else None for _, at in rows),
        event_times_ms=np.array([1000 + at for _, at in rows], dtype=np.int64),
    )


def with_names(task: BufferedTask, named: dict[tuple[int, int], str]) -> BufferedTask:
    """Return it with labels that no decoder knows, by partition and offset."""
    names = tuple(sorted(set(named.values())))
    labels = task.labels.copy()
    records = []
    for row, (partition, offset) in enumerate(task.identities()):
        if (partition.number, offset) in named:
            labels[row] = -1 - names.index(named[partition.number, offset])
            records.append(record(partition, offset))
    return replace(task, labels=labels, names=names, named_records=tuple(records))


def record(partition: Partition, offset: int) -> RecordBatch:
    """Return a record as it came: one of two has a key."""
    key = b"key %d" % offset if offset % 2 else None
    return RecordBatch(partition, [offset], [key], [b"headers"], [b"%d" % offset], [1000 + offset])


def names_of(task: BufferedTask) -> dict[tuple[int, int], str]:
    """Return the labels that no decoder knows, by partition and offset."""
    return {
        (partition.number, offset): task.names[-1 - label]
        for (partition, offset), label in zip(task.identities(), task.labels.tolist(), strict=True)
        if label < 0
    }


def records_of(task: BufferedTask) -> list[Record]:
    """Return the records of such labels, in the order of identities."""
    records = [each for batch in task.named_records for each in batch]
    return sorted(records, key=lambda each: (each.partition, each.offset))


def test_parts_become_one_task_in_the_order_of_identities() -> None:
    """As if one process had read all partitions."""
    whole = part({0: [1, 2], 1: [5], 2: [0, 3, 4], 3: [7]})
    merged = merge_tasks([part({1: [5], 3: [7]}), part({0: [1, 2], 2: [0, 3, 4]})], cause="count")

    assert "count" == merged.cause
    assert whole.ranges == merged.ranges
    assert [*whole.identities()] == [*merged.identities()]
    assert whole.ids == merged.ids
    for name in ("inputs", "labels", "partitions", "offsets", "event_times_ms"):
        assert np.array_equal(getattr(whole, name), getattr(merged, name))
        assert getattr(whole, name).dtype == getattr(merged, name).dtype


def test_parts_that_know_other_new_labels_agree_on_their_places() -> None:
    """The names of all are sorted, as they are in a task that is made of its records again."""
    fox = with_names(part({1: [4, 5], 3: [7]}), {(1, 4): "fox", (3, 7): "yak"})
    ant = with_names(part({0: [1, 2], 2: [0]}), {(0, 1): "yak", (2, 0): "ant"})
    none = part({4: [6]})
    merged = merge_tasks([fox, ant, none], cause="age")

    assert ("ant", "fox", "yak") == merged.names
    assert {**names_of(fox), **names_of(ant)} == names_of(merged)
    assert [(0, 1), (1, 4), (2, 0), (3, 7)] == [
        (each.partition.number, each.offset) for each in records_of(merged)
    ]


@pytest.mark.parametrize("numbers", [{}, {2: []}])
def test_a_part_without_instances_adds_its_ranges_only(numbers: dict[int, list[int]]) -> None:
    """All its records may have been refused."""
    merged = merge_tasks([part({0: [1]}), part(numbers, rejected=(3,))], cause="age")

    assert [0, *numbers] == [planned.partition.number for planned in merged.ranges]
    assert [1] == merged.offsets.tolist()
    assert 1 == len(merged.inputs)


@pytest.mark.parametrize("numbers", [{}, {1: []}, {0: [1, 2], 4: [3]}])
def test_a_task_survives_the_way_to_another_rank(numbers: dict[int, list[int]]) -> None:
    """Ids that are no text, and absent ones, included."""
    sent = part(numbers, rejected=(8,))
    found = unpack_task(RankMessage.from_bytes(pack_task(sent).to_bytes()))

    assert (sent.cause, sent.ranges, sent.ids) == (found.cause, found.ranges, found.ids)
    for name in ("inputs", "labels", "partitions", "offsets", "event_times_ms"):
        assert np.array_equal(getattr(sent, name), getattr(found, name))


def test_records_with_new_labels_survive_the_way_to_another_rank() -> None:
    """Whoever plans the task has to keep them, byte for byte, until their label is a class."""
    sent = with_names(
        part({0: [1, 2], 4: [3, 4, 5]}), {(0, 2): "fox", (4, 3): "ant", (4, 5): "fox"}
    )
    found = unpack_task(RankMessage.from_bytes(pack_task(sent).to_bytes()))

    assert names_of(sent) == names_of(found)
    assert records_of(sent) == records_of(found)


def test_messages_are_read_without_pickle() -> None:
    """Whoever can reach the port could have code run otherwise."""
    for path in (Path(__file__).parent.parent / "daemon").glob("rank_*.py"):
        assert "pickle" not in path.read_text().replace("Never pickle", "")
        assert "_object" not in path.read_text()
