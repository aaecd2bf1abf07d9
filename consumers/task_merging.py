"""Makes one task of the parts that several buffers hold of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from teacherd.consumers.buffered_task import BufferedTask, Cause


def merge_tasks(parts: Sequence[BufferedTask], *, cause: Cause) -> BufferedTask:
    """Return their union, in the order of identities.

    Args:
        parts: At least one; no two of them have records of the same partition.
        cause: Why it was cut.
    """
    owners = sorted(
        (
            (planned, number, place)
            for number, part in enumerate(parts)
            for place, planned in enumerate(part.ranges)
        ),
        key=lambda owner: owner[0].partition,
    )
    chosen = [
        (number, np.flatnonzero(parts[number].partitions == place)) for _, number, place in owners
    ]
    inputs: list[Any] = [parts[number].inputs[rows] for number, rows in chosen if len(rows)]
    names = tuple(sorted({name for part in parts for name in part.names}))
    labels = [_labels_for(names, part) for part in parts]
    return BufferedTask(
        cause=cause,
        ranges=tuple(planned for planned, _, _ in owners),
        inputs=np.concatenate(inputs) if inputs else np.empty(0, dtype=np.uint8),
        labels=_joined([labels[number][rows] for number, rows in chosen]),
        partitions=np.repeat(np.arange(len(chosen)), [len(rows) for _, rows in chosen]),
        offsets=_joined([parts[number].offsets[rows] for number, rows in chosen]),
        ids=tuple(parts[number].ids[row] for number, rows in chosen for row in rows.tolist()),
        event_times_ms=_joined([parts[number].event_times_ms[rows] for number, rows in chosen]),
        names=names,
        named_records=tuple(batch for part in parts for batch in part.named_records),
    )


def _labels_for(names: Sequence[str], part: BufferedTask) -> npt.NDArray[np.int64]:
    """Return a part's labels; those that stand for its own names stand for these."""
    if not part.names:
        return part.labels
    places = {name: place for place, name in enumerate(names)}
    found = np.array([-1 - places[name] for name in part.names], dtype=np.int64)
    labels = part.labels.copy()
    is_named = labels < 0
    labels[is_named] = found[-1 - labels[is_named]]
    return labels


def _joined(columns: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
