"""Tests of the task buffer: what a task is made of, and when it is cut."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from buffering import (
    BAD,
    ROW_BYTES,
    Clock,
    append,
    build_buffer,
    build_decoder,
    cut_all,
    good,
    plain,
)
from hypothesis import given
from hypothesis import strategies as st
from records import INSTANCES, at_offsets, color_image

from teacherd.consumers.decoding import NPY, Decoder, DecodingConfig
from teacherd.consumers.filling_task import RECORD_BYTES
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.range_digest import RangeDigest
from teacherd.consumers.record import Partition
from teacherd.consumers.task_buffer import TaskBufferConfig

OTHER = Partition("instances", 1)


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands."""
    return Clock()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """Give a decoder of two features."""
    with closing(build_decoder()) as made:
        yield made


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
