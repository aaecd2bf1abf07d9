"""Tests of the task buffer: exact cuts, contiguous ranges, bounds, and waiting."""

import itertools
import threading
import tracemalloc
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import INSTANCES, at_offsets, color_image

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.decoded_batch import DecodedBatch
from teacherd.consumers.decoding import NPY, Decoder, DecodingConfig
from teacherd.consumers.filling_task import RECORD_BYTES
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.range_digest import RangeDigest
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig

SHAPE = (2,)
ROW_BYTES = 8
OTHER = Partition("instances", 1)
BAD = NewRecord(b"junk")


class Clock:
    """Seconds that pass when told."""

    seconds = 100.0

    def now(self) -> float:
        """Return the time."""
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands."""
    return Clock()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """Give a decoder of two features."""
    made = Decoder(DecodingConfig(num_threads=1), input_shape=SHAPE, classes=tuple("0123456789"))
    yield made
    made.close()


def build_buffer(clock: Clock | None = None, **config: object) -> TaskBuffer:
    """Build a buffer with small bounds, differing where said."""
    settings = {"instances": 5, "min_instances": 1, "max_records": 100} | config
    return TaskBuffer(TaskBufferConfig(**settings), now=(clock or Clock()).now)


def good(number: int, *, id: bytes | None = None) -> NewRecord:  # noqa: A002 (the header's name)
    """Return a record whose features and label say which it is."""
    value = encode_npy(np.array([number, -number], dtype=np.float32))
    return build_record(value, content_type=NPY, label=number % 10, id=id, event_time_ms=number)


def append(
    buffer: TaskBuffer, decoder: Decoder, batch: RecordBatch, after: int | None = None
) -> None:
    """Append a batch after which its partition is at its end, or further."""
    end = batch.offsets[-1] + 1 if after is None else after
    buffer.append(batch, decoder.decode_batch(batch), {batch.partition: end})


def cut_all(buffer: TaskBuffer) -> list[BufferedTask]:
    """Cut every complete task."""
    tasks = []
    while (cause := buffer.wait_for_cut(0.0)) is not None:
        tasks.append(buffer.cut(cause))
    return tasks


def plain(task: BufferedTask) -> Mapping[str, object]:
    """Return a task as values that can be compared."""
    return {
        "cause": task.cause,
        "ranges": task.ranges,
        "inputs": task.inputs.tolist(),
        "labels": task.labels.tolist(),
        "identities": list(task.identities()),
        "ids": task.ids,
        "times": task.event_times_ms.tolist(),
    }


def test_a_task_by_count_is_what_its_records_say(decoder: Decoder) -> None:
    """Range, digest, rejected offsets, inputs, labels, identities, ids and times."""
    buffer = build_buffer(instances=3)
    records = [good(0, id=b"a"), BAD, good(1), BAD, good(2), good(3)]
    batch = at_offsets(records, first=7)
    append(buffer, decoder, batch)
    digest = RangeDigest()
    digest.update(batch.part(0, 5))

    (task,) = cut_all(buffer)

    (planned,) = task.ranges
    assert "count" == task.cause
    assert INSTANCES == planned.partition
    assert (7, 12, 5) == (planned.start, planned.end, planned.count)
    assert digest.hexdigest() == planned.digest
    assert (8, 10) == planned.rejected
    assert np.float32 == task.inputs.dtype
    assert [[0, 0], [1, -1], [2, -2]] == task.inputs.tolist()
    assert [0, 1, 2] == task.labels.tolist()
    assert [(INSTANCES, 7), (INSTANCES, 9), (INSTANCES, 11)] == list(task.identities())
    assert (b"a", None, None) == task.ids
    assert [0, 1, 2] == task.event_times_ms.tolist()
    assert 5 == task.num_records
    assert (1, 1) == (buffer.num_records, buffer.num_instances)
    buffer.close()


@given(
    is_good=st.lists(st.booleans(), min_size=1, max_size=60),
    bounds=st.lists(st.integers(0, 60), max_size=12),
    instances=st.integers(1, 7),
    max_records=st.integers(7, 12),
    buffer_bytes=st.integers(1, 6 * (RECORD_BYTES + ROW_BYTES)),
)
def test_tasks_are_the_same_however_records_are_batched(
    decoder: Decoder,
    *,
    is_good: list[bool],
    bounds: list[int],
    instances: int,
    max_records: int,
    buffer_bytes: int,
) -> None:
    """By count and by the buffer's bounds alike: a daemon that was killed makes them again."""
    records = [good(n) if each else BAD for n, each in enumerate(is_good)]
    ends = [*sorted(bound for bound in bounds if bound < len(records)), len(records)]
    batches_of_one = [at_offsets([record], first=n) for n, record in enumerate(records)]
    starts = [0, *ends[:-1]]
    batches = [
        at_offsets(records[a:b], first=a) for a, b in zip(starts, ends, strict=True) if a < b
    ]
    results = []
    for cut in (batches_of_one, batches):
        buffer = build_buffer(
            instances=instances, max_records=max_records, buffer_bytes=buffer_bytes
        )
        for batch in cut:
            append(buffer, decoder, batch)
        tasks = cut_all(buffer)
        tasks += [buffer.cut("drain")] if buffer.num_records else []
        buffer.close()
        results.append([plain(task) for task in tasks])

    assert results[0] == results[1]
    assert sum(is_good) == sum(len(task["labels"]) for task in results[0])
    ranges = [task["ranges"][0] for task in results[0]]
    assert [0, *[each.end for each in ranges]] == [*[each.start for each in ranges], len(records)]


def test_images_decoded_one_by_one_become_one_block() -> None:
    """Encoded images and arrays side by side, in the order of their offsets."""
    images = [color_image(seed, side=8) for seed in range(9)]
    records = [
        build_record(encode_png(image), content_type=PNG, label=seed)
        if seed % 4
        else build_record(encode_npy(image), content_type=NPY, label=seed)
        for seed, image in enumerate(images)
    ]
    made = Decoder(DecodingConfig(), input_shape=(3, 8, 8), classes=tuple("0123456789"))
    buffer = build_buffer(instances=9)
    append(buffer, made, at_offsets(records))
    task = buffer.cut("count")
    buffer.close()
    made.close()

    assert np.uint8 == task.inputs.dtype
    assert np.array_equal(np.stack(images), task.inputs)
    assert list(range(9)) == task.labels.tolist()


def test_ranges_go_on_where_the_last_one_ended(decoder: Decoder) -> None:
    """Gaps between records belong to the next range; one read to its end reaches the position."""
    buffer = build_buffer(instances=2)
    buffer.start_at({INSTANCES: 10})
    append(buffer, decoder, at_offsets([good(0)], first=15))
    append(buffer, decoder, at_offsets([good(1)], first=20), after=30)
    append(buffer, decoder, at_offsets([good(2)], first=40), after=50)

    first, second = buffer.cut("count"), buffer.cut("drain")
    append(buffer, decoder, at_offsets([good(3)], first=60))
    third = buffer.cut("drain")
    buffer.close()

    ranges = [(each.ranges[0].start, each.ranges[0].end) for each in (first, second, third)]
    assert [(10, 21), (21, 50), (50, 61)] == ranges


def test_a_task_of_several_partitions_is_in_the_order_of_identities(decoder: Decoder) -> None:
    """Whatever the order of arrival; each partition has its own range."""
    buffer = build_buffer(instances=5)
    append(buffer, decoder, at_offsets([good(0), BAD, good(1)], first=5, partition=OTHER))
    append(buffer, decoder, at_offsets([good(2)], first=1))
    append(buffer, decoder, at_offsets([good(3), BAD], first=8, partition=OTHER))
    append(buffer, decoder, at_offsets([good(4), good(5)], first=2))
    task, rest = buffer.cut("count"), buffer.cut("drain")
    buffer.close()

    assert [2, 4, 0, 1, 3] == task.labels.tolist()
    assert [2, 4, 0, 1, 3] == task.inputs[:, 0].tolist()
    assert [2, 4, 0, 1, 3] == task.event_times_ms.tolist()
    assert [(INSTANCES, 1), (INSTANCES, 2), (OTHER, 5), (OTHER, 7), (OTHER, 8)] == list(
        task.identities()
    )
    assert [(INSTANCES, 1, 3, ()), (OTHER, 5, 10, (6, 9))] == [
        (each.partition, each.start, each.end, each.rejected) for each in task.ranges
    ]
    assert [(INSTANCES, 3, 4)] == [(each.partition, each.start, each.end) for each in rest.ranges]


def test_a_task_without_instances_can_be_drained(decoder: Decoder) -> None:
    """Its records are accounted for all the same."""
    buffer = build_buffer()
    append(buffer, decoder, at_offsets([BAD, BAD]))
    task = buffer.cut("drain")
    buffer.close()

    assert (1, 2) == task.ranges[0].rejected
    assert 0 == len(task.labels) == len(task.inputs) == len(list(task.identities()))


def test_age_cuts_what_has_waited_long_enough(decoder: Decoder, clock: Clock) -> None:
    """Counted from the first record; with too few instances it goes on waiting."""
    buffer = build_buffer(clock, max_age_seconds=60.0, min_instances=2)
    append(buffer, decoder, at_offsets([good(0), BAD]))
    clock.seconds += 30
    assert (30.0, None) == (buffer.oldest_age_seconds, buffer.wait_for_cut(0.0))
    clock.seconds += 30
    assert buffer.wait_for_cut(0.0) is None
    append(buffer, decoder, at_offsets([good(1)], first=3))
    cause = buffer.wait_for_cut(0.0)
    task = buffer.cut("age")

    assert "age" == cause == task.cause
    assert [0, 1] == task.labels.tolist()
    assert 0.0 == buffer.oldest_age_seconds
    append(buffer, decoder, at_offsets([good(2), good(3)], first=4))
    clock.seconds += 59
    assert buffer.wait_for_cut(0.0) is None
    buffer.close()


def test_a_complete_task_is_cut_as_it_is_whatever_is_asked_for(decoder: Decoder) -> None:
    """It may have become complete between the question and the cut."""
    buffer = build_buffer(instances=2)
    append(buffer, decoder, at_offsets([good(0), good(1), good(2)]))
    tasks = [buffer.cut("drain"), buffer.cut("drain")]
    buffer.close()

    assert [("count", 2), ("drain", 1)] == [(task.cause, len(task.labels)) for task in tasks]


def test_a_buffer_full_of_rejects_can_be_cut(decoder: Decoder) -> None:
    """Else nothing would ever be learned again."""
    buffer = build_buffer(instances=5, max_records=8)
    append(buffer, decoder, at_offsets([BAD] * 7))
    assert not buffer.is_full
    append(buffer, decoder, at_offsets([BAD], first=8))
    assert buffer.is_full
    task = buffer.cut(buffer.wait_for_cut(0.0) or "drain")

    assert ("capacity", 8) == (task.cause, task.num_records)
    assert not buffer.is_full
    buffer.close()


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


def test_a_record_that_comes_twice_is_noticed(decoder: Decoder) -> None:
    """It would be learned twice, and the ranges would overlap."""
    buffer = build_buffer()
    append(buffer, decoder, at_offsets([good(0), good(1)]))
    with pytest.raises(AssertionError, match="twice"):
        append(buffer, decoder, at_offsets([good(1)], first=2))
    buffer.close()


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"instances": 0}, "instances"),
        ({"min_instances": 0}, "min_instances"),
        ({"buffer_bytes": 0}, "buffer_bytes"),
        ({"max_age_seconds": 0.0}, "max_age_seconds"),
        ({"instances": 10, "max_records": 9, "min_instances": 1}, "max_records"),
        ({"instances": 10, "min_instances": 11}, "min_instances"),
        ({"instances": 10, "min_instances": 1, "max_instances": 9}, "max_instances"),
        (
            {"instances": 10, "min_instances": 1, "max_instances": 20, "max_records": 19},
            "max_records",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused(config: dict[str, object], key: str) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        TaskBufferConfig(**config)


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
