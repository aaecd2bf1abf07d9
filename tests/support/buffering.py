"""Small task buffers and what tests put into them."""

from collections.abc import Mapping

import numpy as np

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.decoding import NPY, Decoder, DecodingConfig
from teacherd.consumers.producing import build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig

SHAPE = (2,)

ROW_BYTES = 8

BAD = NewRecord(b"junk")


class Clock:
    """Seconds that pass when told."""

    seconds = 100.0

    def now(self) -> float:
        """Return the time."""
        return self.seconds


def build_decoder() -> Decoder:
    """Build a decoder of two features; whoever asks closes it."""
    return Decoder(DecodingConfig(num_threads=1), input_shape=SHAPE, classes=tuple("0123456789"))


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
