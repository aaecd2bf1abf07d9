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
        ((planned, part, place) for part in parts for place, planned in enumerate(part.ranges)),
        key=lambda owner: owner[0].partition,
    )
    chosen = [(part, np.flatnonzero(part.partitions == place)) for _, part, place in owners]
    inputs: list[Any] = [part.inputs[rows] for part, rows in chosen if len(rows)]
    return BufferedTask(
        cause=cause,
        ranges=tuple(planned for planned, _, _ in owners),
        inputs=np.concatenate(inputs) if inputs else np.empty(0, dtype=np.uint8),
        labels=_joined([part.labels[rows] for part, rows in chosen]),
        partitions=np.repeat(np.arange(len(chosen)), [len(rows) for _, rows in chosen]),
        offsets=_joined([part.offsets[rows] for part, rows in chosen]),
        ids=tuple(part.ids[row] for part, rows in chosen for row in rows.tolist()),
        event_times_ms=_joined([part.event_times_ms[rows] for part, rows in chosen]),
    )


def _joined(columns: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
