"""A buffered task as a message between ranks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.packed_bytes import pack_bytes, unpack_bytes
from teacherd.daemon.rank_message import RankMessage
from teacherd.models.evaluation import as_tensor

_COLUMNS = ("inputs", "labels", "partitions", "offsets", "event_times_ms")


def pack_task(task: BufferedTask) -> RankMessage:
    """Return a task as a message, with the records whose labels the decoder does not know."""
    return RankMessage(
        "part",
        {
            "cause": task.cause,
            "ranges": [asdict(planned) for planned in task.ranges],
            "names": list(task.names),
        },
        {
            **{name: as_tensor(getattr(task, name)) for name in _COLUMNS},
            **pack_bytes(task.ids, "ids"),
            **_pack_records(task),
        },
    )


def unpack_task(message: RankMessage) -> BufferedTask:
    """Return the task that `pack_task` was given; its named records are one batch a partition."""
    tensors, facts = message.tensors, message.facts
    columns: dict[str, Any] = {name: tensors[name].numpy() for name in _COLUMNS}
    ranges = tuple(_planned(each) for each in facts["ranges"])
    return BufferedTask(
        cause=facts["cause"],
        ranges=ranges,
        ids=tuple(unpack_bytes(tensors, "ids")),
        names=tuple(facts["names"]),
        named_records=tuple(_unpack_records(tensors, ranges)),
        **columns,
    )


def _pack_records(task: BufferedTask) -> dict[str, Tensor]:
    """Return the named records as tensors; those of a partition stay in their order."""
    places = {planned.partition: place for place, planned in enumerate(task.ranges)}
    batches = task.named_records
    whose = [places[batch.partition] for batch in batches for _ in batch.offsets]
    return {
        "records.partitions": torch.tensor(whose, dtype=torch.int64),
        "records.offsets": _numbers([batch.offsets for batch in batches]),
        "records.timestamps_ms": _numbers([batch.timestamps_ms for batch in batches]),
        **pack_bytes([each for batch in batches for each in batch.keys], "records.keys"),
        **pack_bytes([each for batch in batches for each in batch.headers], "records.headers"),
        **pack_bytes([each for batch in batches for each in batch.values], "records.values"),
    }


def _unpack_records(
    tensors: Mapping[str, Tensor], ranges: Sequence[PlannedRange]
) -> Iterator[RecordBatch]:
    whose = tensors["records.partitions"].numpy()
    offsets = tensors["records.offsets"].tolist()
    timestamps_ms = tensors["records.timestamps_ms"].tolist()
    keys, headers, values = (
        unpack_bytes(tensors, f"records.{name}") for name in ("keys", "headers", "values")
    )
    for place in np.unique(whose).tolist():
        rows = np.flatnonzero(whose == place).tolist()
        yield RecordBatch(
            ranges[place].partition,
            [offsets[row] for row in rows],
            [keys[row] for row in rows],
            [headers[row] or b"" for row in rows],
            [values[row] or b"" for row in rows],
            [timestamps_ms[row] for row in rows],
        )


def _numbers(columns: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([each for column in columns for each in column], dtype=torch.int64)


def _planned(facts: Mapping[str, Any]) -> PlannedRange:
    partition, rejected = Partition(*facts["partition"]), tuple(facts["rejected"])
    return PlannedRange(**{**facts, "partition": partition, "rejected": rejected})
