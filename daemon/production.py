"""Producing a data set as a stream of labelled records."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from teacherd.consumers.appender import Appender
from teacherd.consumers.producing import NPY, PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord
from teacherd.consumers.source import SourceError
from teacherd.daemon.dataset import Dataset, Progress
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.errors import UnavailableError, UsageError

_MAX_BATCH = 500
_BATCHES_PER_SECOND = 10
_NUM_IMAGE_AXES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Production:
    """What `teacherd produce` is told."""

    dataset: str
    data_root: Path
    rate: float
    """Records per second; 0 is as fast as they are taken."""
    limit: int | None
    payload: Literal["npy", "png"]
    shuffle_seed: int | None
    """None keeps the data set's order."""
    keys: Literal["none", "label", "number"] = "none"
    """What records carry as key: nothing, their class, or their place in the data set."""


def produce_dataset(
    open_appender: Callable[[], Appender],
    production: Production,
    *,
    on_progress: Progress,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Append a data set's instances, each with its class name as label.

    Args:
        open_appender: Called once the data set is known to be usable.
        production: What is produced, and how.
        on_progress: Told how many of how many records are in.
        now: Seconds; paces the records.
        sleep: Waits for so many seconds.

    Returns:
        Number of records, and the offset of the last one, for a topic by partition.

    Raises:
        UsageError: The data set cannot be used, or not in that format.
        UnavailableError: The records were not taken.
    """
    dataset = load_dataset(production.dataset, root=production.data_root)
    if production.payload == "png" and len(dataset.input_shape) != _NUM_IMAGE_AXES:
        raise UsageError(f"--format: {production.dataset} holds feature vectors; take npy")
    order = np.arange(len(dataset))
    if production.shuffle_seed is not None:
        np.random.default_rng(production.shuffle_seed).shuffle(order)
    order = order[: production.limit]
    rate = production.rate
    appender = open_appender()
    last: dict[str, Any] = {}
    try:
        started, num_done = now(), 0
        for places in _batches(order, rate):
            if rate > 0:
                sleep(max(0.0, started + num_done / rate - now()))
            taken = appender.append(_records(dataset, places, production))
            last = _last_offsets(last, taken)
            num_done += len(places)
            on_progress(num_done, len(order))
    except SourceError as error:
        raise UnavailableError(f"{error}; {num_done} records are in, up to {last}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    finally:
        appender.close()
    return {"records": len(order), **last}


def _last_offsets(before: dict[str, Any], taken: object) -> dict[str, Any]:
    """Say how far an appender came, in the words of the report."""
    if not isinstance(taken, Mapping):
        return {"last_offset": taken}
    offsets = {str(number): offset for (_, number), offset in sorted(taken.items())}
    return {"last_offsets": {**before.get("last_offsets", {}), **offsets}}


def _batches(order: npt.NDArray[np.int64], rate: float) -> Iterator[npt.NDArray[np.int64]]:
    """Cut into what is durable together: small enough that a slow stream flows evenly."""
    size = _MAX_BATCH if rate == 0 else max(1, min(_MAX_BATCH, int(rate / _BATCHES_PER_SECOND)))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _records(
    dataset: Dataset, places: npt.NDArray[np.int64], production: Production
) -> Iterator[NewRecord]:
    is_png = production.payload == "png"
    encode, content_type = (encode_png, PNG) if is_png else (encode_npy, NPY)
    for place in places:
        label = dataset.classes[dataset.labels[place]]
        keys = {"none": None, "label": label.encode(), "number": b"%d" % place}
        yield build_record(
            encode(dataset.inputs[place]),
            content_type=content_type,
            label=label,
            key=keys[production.keys],
        )
