"""Records as lines of JSON, for files that people look into: bytes in base64, headers readable."""

import base64
import json
from typing import Any

from teacherd.consumers.headers import readable_headers
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch


def write_line(batch: RecordBatch, place: int, **more: Any) -> str:  # noqa: ANN401 (JSON values)
    """Word one record, with its headers readable beside their very bytes.

    Args:
        batch: The record's.
        place: Of the record in it.
        more: To be said besides.
    """
    topic, partition = batch.partition
    key, packed = batch.keys[place], batch.headers[place]
    fields = {
        "topic": topic,
        "partition": partition,
        "offset": batch.offsets[place],
        "timestamp_ms": batch.timestamps_ms[place],
        **more,
        "headers": [
            [name, value.decode(errors="replace")] for name, value in readable_headers(packed)
        ],
        "key": None if key is None else encode(key),
        "packed_headers": encode(packed),
        "value": encode(batch.values[place]),
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


def read_record(fields: dict[str, Any]) -> RecordBatch:
    """Return the record that `write_line` worded.

    Raises:
        ValueError, KeyError, TypeError: It did not.
    """
    key = fields["key"]
    return RecordBatch(
        Partition(fields["topic"], fields["partition"]),
        [fields["offset"]],
        [None if key is None else base64.b64decode(key)],
        [base64.b64decode(fields["packed_headers"])],
        [base64.b64decode(fields["value"])],
        [fields["timestamp_ms"]],
    )


def encode(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")
