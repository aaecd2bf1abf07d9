"""What the headers of a record say about its payload."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from teacherd.consumers.instance import RejectionError
from teacherd.consumers.record import Record

MAX_ID_BYTES = 256
_MAX_EVENT_TIME_MS = 253_402_300_799_999  # the end of the year 9999
_SHOWN_LABEL_CHARACTERS = 80


class Description(NamedTuple):
    """What the headers say; a header given twice counts with its last value."""

    content_type: str
    """Lower case, without parameters; empty if there is none."""
    label: int | None
    """Place among the classes; None if no header says."""
    id: bytes | None
    event_time_ms: int


class DescriptionReader:
    """Reads headers against a list of classes.

    Args:
        classes: Names, in the order of the network's outputs.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._num_classes = len(classes)
        self._labels = _places(classes)
        self._encoded_labels: Mapping[bytes, int] = {
            name.encode(): place for name, place in self._labels.items()
        }

    def read(self, record: Record) -> Description:
        """Return what the record's headers say.

        Raises:
            RejectionError: A header cannot be understood.
        """
        content_type = label = identity = event_time = None
        for name, value in record.headers:
            if name == "label":
                label = value
            elif name == "content-type":
                content_type = value
            elif name == "id":
                identity = value
            elif name == "event-time":
                event_time = value
        if identity is not None and not 0 < len(identity) <= MAX_ID_BYTES:
            raise RejectionError("bad_id", f"the id has {len(identity)} bytes, not 1..256")
        return Description(
            "" if content_type is None else _plain_content_type(content_type),
            None if label is None else self._place_of_header(label),
            identity,
            record.timestamp_ms if event_time is None else parse_event_time(event_time),
        )

    def place(self, label: str | int) -> int:
        """Return the place of a label from a body or a user's decoder; a name wins over an index.

        Raises:
            RejectionError: It is none of the classes.
        """
        place = self._labels.get(str(label))
        if place is None:
            raise RejectionError(
                "unknown_label", f"the label is none of the {self._num_classes} classes"
            )
        return place

    def _place_of_header(self, label: bytes) -> int:
        place = self._encoded_labels.get(label)
        if place is None:
            shown = ascii(label.decode("latin-1"))[:_SHOWN_LABEL_CHARACTERS]
            raise RejectionError(
                "unknown_label", f"the label {shown} is none of the {self._num_classes} classes"
            )
        return place


def parse_event_time(text: bytes) -> int:
    """Return milliseconds since the epoch from milliseconds or ISO 8601 (UTC without an offset).

    Raises:
        RejectionError: It is neither, or lies outside the years 1970 to 9999.
    """
    try:
        time_ms = int(text) if text.isdigit() else _iso_to_ms(text.decode("ascii"))
    except (ValueError, OverflowError) as error:
        raise _bad_event_time() from error
    if not 0 <= time_ms <= _MAX_EVENT_TIME_MS:
        raise _bad_event_time()
    return time_ms


def _iso_to_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _bad_event_time() -> RejectionError:
    return RejectionError(
        "bad_event_time", "event-time is neither milliseconds since the epoch nor ISO 8601"
    )


def _plain_content_type(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def _places(classes: Sequence[str]) -> dict[str, int]:
    """Return the place of each label; names come last, so that they win over indices."""
    places = {str(place): place for place in range(len(classes))}
    return places | {name: place for place, name in enumerate(classes)}
