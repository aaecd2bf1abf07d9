"""Tests of the task buffer's bounds: bytes, memory, waiting, and tasks that grow."""

import itertools
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing

import pytest
from buffering import BAD, ROW_BYTES, append, build_buffer, build_decoder, cut_all, good
from hypothesis import given
from hypothesis import strategies as st
from records import INSTANCES, at_offsets

from teacherd.consumers.decoded_batch import DecodedBatch
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.filling_task import RECORD_BYTES
from teacherd.consumers.record import NewRecord


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """Give a decoder of two features."""
    with closing(build_decoder()) as made:
        yield made


def test_the_buffer_is_bounded_in_bytes(decoder: Decoder) -> None:
    """It counts arrays, ids and what it keeps of every record; a cut makes room."""
    bound = 3 * (RECORD_BYTES + ROW_BYTES)
    buffer = build_buffer(instances=50, buffer_bytes=bound)
    append(buffer, decoder, at_offsets([good(0), good(1, id=b"i" * (ROW_BYTES - 1)), BAD]))
    assert (bound - 1, False) == (buffer.num_bytes, buffer.is_full)
    append(buffer, decoder, at_offsets([BAD], first=4))
    assert buffer.is_full
    task = buffer.cut(buffer.wait_for_cut(0.0) or "drain")

    assert ("capacity", 4) == (task.cause, task.num_records)
    assert (0, 0, 0) == (buffer.num_bytes, buffer.num_records, buffer.num_instances)
    buffer.close()


def test_complete_tasks_that_wait_hold_no_values(decoder: Decoder) -> None:
    """Their digests have taken them in, and no limit counts such memory."""
    buffer = build_buffer(max_records=5)
    records = at_offsets([NewRecord(bytes(100_000))] * 5)
    decoded = decoder.decode_batch(records)
    tracemalloc.start()
    try:
        buffer.append(records, decoded, {})
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    buffer.close()

    assert "capacity" == buffer.wait_for_cut(0.0)
    assert held < 100_000 < most


def test_memory_for_a_task_is_bounded_by_the_buffer(decoder: Decoder) -> None:
    """However many instances a task may have."""
    buffer = build_buffer(instances=10**9, max_records=10**9, buffer_bytes=10_000)
    append(buffer, decoder, at_offsets([good(n) for n in range(20)]))
    task = buffer.cut("drain")
    buffer.close()

    assert task.inputs.base is not None
    assert task.inputs.base.nbytes <= 10_000 + ROW_BYTES


def test_waiting_for_a_cut_ends_when_a_task_is_complete(decoder: Decoder) -> None:
    """Learning sleeps until intake has enough."""
    buffer = build_buffer(instances=2)
    causes: list[str | None] = []
    learning = threading.Thread(target=lambda: causes.append(buffer.wait_for_cut(60.0)))
    learning.start()
    append(buffer, decoder, at_offsets([good(0), good(1)]))
    learning.join(60.0)
    buffer.close()

    assert ["count"] == causes


def test_waiting_for_room_ends_with_a_cut(decoder: Decoder) -> None:
    """Intake sleeps until learning has taken a task; else until its timeout."""
    buffer = build_buffer(instances=2, max_records=2)
    append(buffer, decoder, at_offsets([good(0), good(1)]))
    assert not buffer.wait_for_room(0.0)
    answers: list[bool] = []
    intake = threading.Thread(target=lambda: answers.append(buffer.wait_for_room(60.0)))
    intake.start()
    buffer.cut("count")
    intake.join(60.0)
    buffer.close()

    assert [True] == answers


def test_what_waits_elsewhere_counts_where_bounds_are_shared(decoder: Decoder) -> None:
    """In records and in bytes; with nothing of its own it may be full, too."""
    buffer = build_buffer(instances=2, max_records=4, buffer_bytes=10_000)
    buffer.count_elsewhere(3, 0)
    assert not buffer.is_full
    append(buffer, decoder, at_offsets([good(0)]))
    assert buffer.is_full
    buffer.count_elsewhere(2, 9000)
    assert buffer.wait_for_room(0.0)
    buffer.count_elsewhere(2, 10_000)
    assert buffer.is_full
    buffer.close()


def test_intake_and_learning_may_work_at_once(decoder: Decoder) -> None:
    """Every record is in exactly one task."""
    buffer = build_buffer(instances=7, max_records=30)
    batches = [at_offsets([good(n % 10)] * 3, first=1 + 3 * n) for n in range(100)]
    decoded: list[DecodedBatch] = [decoder.decode_batch(batch) for batch in batches]

    def intake() -> None:
        for batch, each in zip(batches, decoded, strict=True):
            buffer.wait_for_room(60.0)
            buffer.append(batch, each, {INSTANCES: batch.offsets[-1] + 1})

    thread = threading.Thread(target=intake)
    thread.start()
    tasks = [buffer.cut(buffer.wait_for_cut(60.0) or "drain") for _ in range(300 // 7)]
    thread.join(60.0)
    tasks.append(buffer.cut("drain"))
    buffer.close()

    assert list(range(1, 301)) == [offset for task in tasks for _, offset in task.identities()]


def test_tasks_grow_while_others_wait_before_them(decoder: Decoder) -> None:
    """Each takes as many as wait before it, up to the largest; the count is still exact."""
    buffer = build_buffer(instances=5, max_instances=16)
    append(buffer, decoder, at_offsets([good(n) for n in range(60)], first=0))

    tasks = cut_all(buffer)

    assert [5, 5, 10, 16, 16, 8] == [len(task.labels) for task in tasks]
    assert ["count"] * 2 + ["load"] * 4 == [task.cause for task in tasks]
    assert [0, 5, 10, 20, 36, 52] == [task.ranges[0].start for task in tasks]
    buffer.close()


def test_a_grown_task_does_not_keep_learning_waiting(decoder: Decoder) -> None:
    """From the usual size on it may be cut, with all that was read, and the next is usual again."""
    buffer = build_buffer(instances=5, max_instances=16)
    append(buffer, decoder, at_offsets([good(n) for n in range(17)], first=0))
    for _ in range(2):
        buffer.cut("count")
    cause = buffer.wait_for_cut(0.0)
    assert cause is not None
    grown = buffer.cut(cause)
    append(buffer, decoder, at_offsets([good(n) for n in range(17, 22)], first=17))
    (usual,) = cut_all(buffer)

    assert ("load", 7) == (grown.cause, len(grown.labels))
    assert ("count", 5) == (usual.cause, len(usual.labels))
    buffer.close()


def test_a_grown_task_below_the_usual_size_waits(decoder: Decoder) -> None:
    """Growing never makes tasks smaller."""
    buffer = build_buffer(instances=5, max_instances=16)
    append(buffer, decoder, at_offsets([good(n) for n in range(14)]))

    assert [5, 5] == [len(task.labels) for task in cut_all(buffer)]
    assert 4 == buffer.num_instances
    buffer.close()


@given(bounds=st.lists(st.integers(0, 200), max_size=12), cuts=st.lists(st.integers(0, 4)))
def test_growth_stays_within_every_bound(
    decoder: Decoder, bounds: list[int], cuts: list[int]
) -> None:
    """Whatever the load, ranges follow each other and no task exceeds what it may hold."""
    buffer = build_buffer(
        instances=5, max_instances=20, max_records=30, buffer_bytes=25 * (RECORD_BYTES + ROW_BYTES)
    )
    ends = [0, *sorted(bounds), 200]
    tasks = []
    for number, (low, high) in enumerate(itertools.pairwise(ends)):
        if low < high:
            append(buffer, decoder, at_offsets([good(n) for n in range(low, high)], first=low))
        num_cuts = cuts[number] if number < len(cuts) else 1
        while num_cuts and (cause := buffer.wait_for_cut(0.0)) is not None:
            tasks.append(buffer.cut(cause))
            num_cuts -= 1
    tasks += cut_all(buffer)

    assert all(len(task.labels) <= 20 for task in tasks)
    assert [0, *(task.ranges[0].end for task in tasks[:-1])] == [
        task.ranges[0].start for task in tasks
    ]
    assert tasks[-1].ranges[0].end + buffer.num_records == 200
    buffer.close()
