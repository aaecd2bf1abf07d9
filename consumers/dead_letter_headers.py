"""How a dead letter in a topic says where it comes from: headers after those of the record."""

from collections.abc import Sequence

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.headers import Headers, pack_headers, readable_headers
from teacherd.consumers.record import Partition, Record

_MAX_MESSAGE_BYTES = 1000
_NAMES = (
    "dead-letter-topic",
    "dead-letter-partition",
    "dead-letter-offset",
    "dead-letter-stage",
    "dead-letter-reason",
    "dead-letter-message",
    "dead-letter-timestamp",
)
_REQUEUED = "dead-letter-requeued"
_NUM_ORIGIN = 3

Origin = tuple[Partition, int]
"""Partition and offset that the record had; a second letter with the same is a copy."""


def letter_headers(letter: DeadLetter) -> Headers:
    """Return the record's own headers, untouched, and then those that say what became of it."""
    values = (
        *_origin_values((letter.origin, letter.offset)),
        letter.stage.encode(),
        letter.reason.encode(),
        letter.message.encode(errors="replace")[:_MAX_MESSAGE_BYTES],
        str(letter.timestamp_ms).encode(),
    )
    return (*readable_headers(letter.headers), *zip(_NAMES, values, strict=True))


def requeued_headers(origin: Origin) -> Headers:
    """Return the headers of the mark that a letter was put back into its topic."""
    names = (_REQUEUED, *_NAMES[:_NUM_ORIGIN])
    return tuple(zip(names, (b"1", *_origin_values(origin)), strict=True))


def requeued_origin(headers: Headers) -> Origin | None:
    """Return whose mark this is; None if it is none."""
    if len(headers) != 1 + _NUM_ORIGIN or headers[0][0] != _REQUEUED:
        return None
    return _origin([value for _, value in headers[1:]])


def read_letter(record: Record) -> DeadLetter | None:
    """Return the letter that a record of the topic is; None if it was put there by others."""
    ours = record.headers[-len(_NAMES) :]
    values = [value for _, value in ours]
    origin = _origin(values[:_NUM_ORIGIN])
    if tuple(name for name, _ in ours) != _NAMES or origin is None:
        return None
    stage, reason, message, timestamp = values[_NUM_ORIGIN:]
    return DeadLetter(
        origin=origin[0],
        offset=origin[1],
        key=record.key,
        headers=pack_headers(record.headers[: -len(_NAMES)]),
        value=record.value,
        stage=stage.decode(errors="replace"),
        reason=reason.decode(errors="replace"),
        message=message.decode(errors="replace"),
        timestamp_ms=int(timestamp) if timestamp.isdigit() else record.timestamp_ms,
    )


def _origin_values(origin: Origin) -> tuple[bytes, ...]:
    (topic, number), offset = origin
    return (topic.encode(), str(number).encode(), str(offset).encode())


def _origin(values: Sequence[bytes]) -> Origin | None:
    try:
        topic, number, offset = values
        return Partition(topic.decode(), int(number)), int(offset)
    except ValueError:
        return None
