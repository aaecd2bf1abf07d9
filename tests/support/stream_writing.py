"""Writes what daemons of tests learn into stream logs."""

from collections.abc import Iterable
from pathlib import Path

from base_models import digits

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig


def append_records(path: Path | str, records: Iterable[NewRecord]) -> None:
    """Append records to a stream log, which is made if there is none."""
    log = StreamLog(StreamLogConfig(path=str(path)))
    log.append(records)
    log.close()


def append_digits(path: Path | str, start: int, end: int, *, shift: int = 0) -> None:
    """Append digits start to end as arrays, over and over, their labels wrong by a shift."""
    data = digits()
    places = (number % len(data.labels) for number in range(start, end))
    append_records(
        path,
        (
            build_record(
                encode_npy(data.inputs[place]),
                content_type=NPY,
                label=int(data.labels[place] + shift) % 10,
            )
            for place in places
        ),
    )
