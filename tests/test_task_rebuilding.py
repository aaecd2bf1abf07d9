"""Tests of making a planned task once more."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records import INSTANCES, at_offsets

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.decoding import NPY, Decoder, DecodingConfig
from teacherd.consumers.producing import build_record, encode_npy
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.consumers.task_rebuilding import RangeMismatchError, rebuild_task

OTHER = Partition("instances", 1)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """Give a decoder of one feature."""
    made = Decoder(DecodingConfig(num_threads=1), input_shape=(1,), classes=("a", "b"))
    yield made
    made.close()


def records(count: int) -> list[NewRecord]:
    """Return records of which every fifth is none."""
    return [
        build_record(
            encode_npy(np.array([number])), content_type=NPY, label="a" if number % 5 else "c"
        )
        for number in range(count)
    ]


def cut(decoder: Decoder, batches: list[RecordBatch]) -> BufferedTask:
    """Return the task of all these batches."""
    buffer = TaskBuffer(TaskBufferConfig(), now=lambda: 0.0)
    for batch in batches:
        end = batch.offsets[-1] + 1
        buffer.append(batch, decoder.decode_batch(batch), {batch.partition: end})
    task = buffer.cut("drain")
    buffer.close()
    return task


def same(first: BufferedTask, second: BufferedTask) -> bool:
    """Tell whether two tasks are the same in everything."""
    return (
        (first.cause, first.ranges, first.ids) == (second.cause, second.ranges, second.ids)
        and np.array_equal(first.inputs, second.inputs)
        and np.array_equal(first.labels, second.labels)
        and np.array_equal(first.event_times_ms, second.event_times_ms)
        and list(first.identities()) == list(second.identities())
    )


def test_a_task_is_rebuilt_from_the_log_as_it_was(tmp_path: Path, decoder: Decoder) -> None:
    """Every task of a stream, with rejects in it, cut by count and at last by drain."""
    log = StreamLog(StreamLogConfig(path=str(tmp_path / "stream.db")))
    log.append(records(1000))
    buffer = TaskBuffer(TaskBufferConfig(instances=300), now=lambda: 0.0)
    while (batch := log.poll(77, 0.0)) is not None:
        buffer.append(batch, decoder.decode_batch(batch), log.positions())
    tasks = [buffer.cut("drain") for _ in range(3)]
    buffer.close()

    for task in tasks:
        read = log.read([planned.offsets for planned in task.ranges])
        assert same(task, rebuild_task(task.ranges, read, decoder, cause=task.cause))
    log.close()


def test_the_order_of_arrival_does_not_matter(decoder: Decoder) -> None:
    """A source reads range by range what once came mixed."""
    first = at_offsets(records(9))
    second = at_offsets(records(7), partition=OTHER)
    task = cut(decoder, [second.part(0, 2), first.part(0, 5), second.part(2, 7), first.part(5, 9)])

    assert same(task, rebuild_task(task.ranges, iter([first, second]), decoder, cause="drain"))


def test_a_missing_record_is_found(decoder: Decoder) -> None:
    """The error says where, what was planned and what is there."""
    batch = at_offsets(records(10))
    task = cut(decoder, [batch])
    with pytest.raises(RangeMismatchError, match=r"instances/0 offsets \[1, 11\)") as caught:
        rebuild_task(task.ranges, iter([batch.part(0, 9)]), decoder, cause="drain")

    assert (10, 9) == (caught.value.expected, caught.value.found)
    assert task.ranges[0] == caught.value.planned


def test_a_missing_partition_is_found(decoder: Decoder) -> None:
    """Also when nothing of it comes."""
    first, second = at_offsets(records(3)), at_offsets(records(3), partition=OTHER)
    task = cut(decoder, [first, second])
    with pytest.raises(RangeMismatchError, match="instances/1") as caught:
        rebuild_task(task.ranges, iter([first]), decoder, cause="drain")

    assert (3, 0) == (caught.value.expected, caught.value.found)


def test_a_record_too_many_is_found(decoder: Decoder) -> None:
    """A range gives what was planned, and nothing more."""
    batch = at_offsets(records(10))
    task = cut(decoder, [batch.part(0, 9)])
    with pytest.raises(RangeMismatchError):
        rebuild_task(task.ranges, iter([batch]), decoder, cause="drain")


def test_a_changed_record_is_found(decoder: Decoder) -> None:
    """One other byte is another digest."""
    new = records(10)
    task = cut(decoder, [at_offsets(new)])
    new[4] = new[4]._replace(value=new[5].value)
    with pytest.raises(RangeMismatchError, match="digest") as caught:
        rebuild_task(task.ranges, iter([at_offsets(new)]), decoder, cause="drain")

    assert task.ranges[0].digest == caught.value.expected


def test_a_decoder_that_judges_otherwise_is_found(decoder: Decoder) -> None:
    """Another library version or another list of classes would make another task of the records."""
    batch = at_offsets(records(10))
    task = cut(decoder, [batch])
    other = Decoder(DecodingConfig(), input_shape=(1,), classes=("a", "b", "c"))
    with pytest.raises(RangeMismatchError, match="rejected"):
        rebuild_task(task.ranges, iter([batch]), other, cause="drain")
    other.close()


def test_rejected_records_take_no_memory(decoder: Decoder) -> None:
    """Nor is it asked for: with large images the system would refuse what is never needed."""
    bad = [record._replace(value=b"no array") for record in records(1000)]
    batch = at_offsets([*bad, *records(10)])
    task = cut(decoder, [batch])
    rebuilt = rebuild_task(task.ranges, iter([batch]), decoder, cause="drain")
    base = rebuilt.inputs if rebuilt.inputs.base is None else rebuilt.inputs.base

    assert same(task, rebuilt)
    assert 8 == len(rebuilt.inputs) == len(base)


def test_the_planned_range_counts_not_the_records_alone(decoder: Decoder) -> None:
    """Where a range begins and ends is taken from the plan: gaps at its ends have no records."""
    batch = at_offsets(records(6), first=5)
    task = cut(decoder, [batch])
    gaps = {"start": 2, "end": 20, "last_digest": None}
    wider = tuple(replace(planned, **gaps) for planned in task.ranges)

    rebuilt = rebuild_task(wider, iter([batch]), decoder, cause="drain")

    assert wider == rebuilt.ranges
    assert [(INSTANCES, offset) for offset in (6, 7, 8, 9)] == list(rebuilt.identities())
