"""A buffered task as a message between ranks."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.record import Partition
from teacherd.daemon.rank_message import RankMessage
from teacherd.models.evaluation import as_tensor

_COLUMNS = ("inputs", "labels", "partitions", "offsets", "event_times_ms")
_NO_ID = -1


def pack_task(task: BufferedTask) -> RankMessage:
    """Return a task as a message."""
    ids = b"".join(each or b"" for each in task.ids)
    lengths = [_NO_ID if each is None else len(each) for each in task.ids]
    return RankMessage(
        "part",
        {"cause": task.cause, "ranges": [asdict(planned) for planned in task.ranges]},
        {
            **{name: as_tensor(getattr(task, name)) for name in _COLUMNS},
            "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8) if ids else torch.empty(0),
            "id_lengths": torch.tensor(lengths, dtype=torch.int64),
        },
    )


def unpack_task(message: RankMessage) -> BufferedTask:
    """Return the task that `pack_task` was given."""
    columns: dict[str, Any] = {name: message.tensors[name].numpy() for name in _COLUMNS}
    text = message.tensors["ids"].numpy().tobytes()
    ids: list[bytes | None] = []
    at = 0
    for length in message.tensors["id_lengths"].tolist():
        ids.append(None if length == _NO_ID else text[at : at + length])
        at += max(length, 0)
    return BufferedTask(
        cause=message.facts["cause"],
        ranges=tuple(_planned(each) for each in message.facts["ranges"]),
        ids=tuple(ids),
        **columns,
    )


def _planned(facts: Mapping[str, Any]) -> PlannedRange:
    partition, rejected = Partition(*facts["partition"]), tuple(facts["rejected"])
    return PlannedRange(**{**facts, "partition": partition, "rejected": rejected})
