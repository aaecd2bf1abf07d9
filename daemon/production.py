"""Producing a data set as a stream of labelled records."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from teacherd.consumers.producing import NPY, PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.daemon.dataset import Dataset, Progress
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.source_opening import open_stream

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


def produce_dataset(
    config: StreamLogConfig,
    production: Production,
    *,
    on_progress: Progress,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, int]:
    """Append a data set's instances, each with its class name as label.

    Returns:
        Number of records and the offset of the last one.

    Raises:
        UsageError: The data set cannot be used, or not in that format.
        ConfigurationError: The stream log cannot be used.
        UnavailableError: The stream log did not take the records.
    """
    dataset = load_dataset(production.dataset, root=production.data_root)
    if production.payload == "png" and len(dataset.input_shape) != _NUM_IMAGE_AXES:
        raise UsageError(f"--format: {production.dataset} holds feature vectors; take npy")
    order = np.arange(len(dataset))
    if production.shuffle_seed is not None:
        np.random.default_rng(production.shuffle_seed).shuffle(order)
    order = order[: production.limit]
    rate = production.rate
    log = open_stream(config)
    last_offset = -1
    try:
        started, num_done = now(), 0
        for places in _batches(order, rate):
            if rate > 0:
                sleep(max(0.0, started + num_done / rate - now()))
            last_offset = log.append(_records(dataset, places, production.payload))
            num_done += len(places)
            on_progress(num_done, len(order))
    except SourceError as error:
        raise UnavailableError(f"{error}; records up to offset {last_offset} are in") from error
    finally:
        log.close()
    return {"records": len(order), "last_offset": last_offset}


def _batches(order: npt.NDArray[np.int64], rate: float) -> Iterator[npt.NDArray[np.int64]]:
    """Cut into what is durable together: small enough that a slow stream flows evenly."""
    size = _MAX_BATCH if rate == 0 else max(1, min(_MAX_BATCH, int(rate / _BATCHES_PER_SECOND)))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _records(dataset: Dataset, places: npt.NDArray[np.int64], payload: str) -> Iterator[NewRecord]:
    encode, content_type = (encode_png, PNG) if payload == "png" else (encode_npy, NPY)
    for place in places:
        yield build_record(
            encode(dataset.inputs[place]),
            content_type=content_type,
            label=dataset.classes[dataset.labels[place]],
        )
