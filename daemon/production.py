"""Producing a data set as a stream of labelled records."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from teacherd.consumers.producing import build_record, encode_npy, encode_png
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.stream_opening import open_stream

_MAX_BATCH = 500
_BATCHES_PER_SECOND = 10
_NUM_IMAGE_AXES = 3


def produce_dataset(
    config: StreamLogConfig,
    spec: str,
    *,
    data_root: Path,
    rate: float,
    limit: int | None,
    payload: Literal["npy", "png"],
    shuffle_seed: int | None,
    on_progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Append a data set's instances, each with its class name as label, at most `rate` a second.

    Returns:
        Number of records and the offset of the last one.

    Raises:
        UsageError: The data set cannot be used, or not in that format.
        ConfigurationError: The stream log cannot be used.
        UnavailableError: The stream log did not take the records.
    """
    dataset = load_dataset(spec, root=data_root)
    if payload == "png" and len(dataset.input_shape) != _NUM_IMAGE_AXES:
        raise UsageError(f"--format: {spec} holds feature vectors; take npy")
    order = np.arange(len(dataset))
    if shuffle_seed is not None:
        np.random.default_rng(shuffle_seed).shuffle(order)
    order = order[:limit]
    encode, content_type = (
        (encode_png, "image/png") if payload == "png" else (encode_npy, "application/x-npy")
    )
    batch_size = (
        _MAX_BATCH if rate == 0 else max(1, min(_MAX_BATCH, int(rate / _BATCHES_PER_SECOND)))
    )
    log = open_stream(config)
    last_offset = -1
    try:
        started = time.monotonic()
        for start in range(0, len(order), batch_size):
            if rate > 0:
                time.sleep(max(0.0, started + start / rate - time.monotonic()))
            places = order[start : start + batch_size]
            last_offset = log.append(
                build_record(
                    encode(dataset.inputs[place]),
                    content_type=content_type,
                    label=dataset.classes[dataset.labels[place]],
                )
                for place in places
            )
            on_progress(start + len(places), len(order))
    except SourceError as error:
        raise UnavailableError(f"{error}; records up to offset {last_offset} are in") from error
    finally:
        log.close()
    return {"records": len(order), "last_offset": last_offset}
