"""What the headers of a record say about its payload."""

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import NamedTuple

from teacherd.consumers.headers import (
    MAX_CACHED_BYTES,
    HeadersError,
    headers_layout,
    read_layout,
)
from teacherd.consumers.instance import NAMED, Rejected, RejectionError

MAX_ID_BYTES = 256
MAX_NAME_BYTES = 128
"""Of a class that is known by its name only: names stand in manifests, metrics and answers."""
_MAX_CONTENT_TYPE_BYTES = 256
NO_LABEL = -1
_MAX_EVENT_TIME_MS = 253_402_300_799_999  # the end of the year 9999
_SHOWN_LABEL_CHARACTERS = 80


_NOWHERE = slice(0, 0)


class _Fields(NamedTuple):
    """Where packed headers of one layout have what matters here."""

    total_bytes: int
    content_type: slice
    label: slice
    id: slice
    event_time: slice


_NO_FIELDS = _Fields(0, _NOWHERE, _NOWHERE, _NOWHERE, _NOWHERE)


class Descriptions(NamedTuple):
    """What the headers of a batch of records say, as columns."""

    content_types: Sequence[str]
    """Lower case, without parameters; empty where there is none."""
    labels: Sequence[int]
    """Places among the classes; NO_LABEL where no header says, NAMED where `named` does."""
    ids: Sequence[bytes | None]
    event_times_ms: Sequence[int]
    rejected: dict[int, Rejected]
    """Records whose headers cannot be understood, by place."""
    named: dict[int, str]
    """Labels that are none of the classes, by place; empty where those are rejected."""


class DescriptionReader:
    """Reads headers against a list of classes.

    A header given twice counts with its last value; one that is empty counts as none.

    Args:
        classes: Names, in the order of the network's outputs.
        max_header_bytes: Longest packed headers; longer ones are refused unread.
        reads_labels: Whether a label header counts; a user's decoder may give it any meaning.
        has_open_labels: Whether a label that is none of the classes is one all the same.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        max_header_bytes: int,
        reads_labels: bool = True,
        has_open_labels: bool = False,
    ) -> None:
        self._max_header_bytes = max_header_bytes
        self._reads_labels = reads_labels
        self._has_open_labels = has_open_labels
        self._num_classes = len(classes)
        self._labels = _places(classes)
        self._encoded_labels: Mapping[bytes, int] = {
            name.encode(): place for name, place in self._labels.items() if name
        }

    def read(self, headers: Sequence[bytes], timestamps_ms: Sequence[int]) -> Descriptions:
        """Return what packed headers say; a record's timestamp stands in for its event time."""
        rejected: dict[int, Rejected] = {}
        named: dict[int, str] = {}
        fields = self._fields_alike(headers) or self._fields_of_each(headers, rejected)
        _, content_types, labels, ids, times = zip(*fields, strict=True)
        return Descriptions(
            content_types=[
                _plain_content_type(packed[part])
                for packed, part in zip(headers, content_types, strict=True)
            ],
            labels=self._places_of(headers, labels, rejected, named),
            ids=_checked_ids(_values(headers, ids), len(headers), rejected),
            event_times_ms=_event_times(_values(headers, times), timestamps_ms, rejected),
            rejected=rejected,
            named=named,
        )

    def _fields_alike(self, headers: Sequence[bytes]) -> Sequence[_Fields] | None:
        """Return where the fields are if the layouts are known and as long as the first one.

        That is how the headers of one producer are, whatever their values: one lookup each does.
        """
        lengths = [*map(len, headers)]
        if max(lengths) > self._max_header_bytes:
            return None
        try:
            num_bytes = headers_layout(headers[0]).num_bytes
            fields = [_fields(packed[:num_bytes]) for packed in headers]
        except HeadersError:
            return None
        return fields if lengths == [each.total_bytes for each in fields] else None

    def _fields_of_each(
        self, headers: Sequence[bytes], rejected: dict[int, Rejected]
    ) -> Sequence[_Fields]:
        limit, fields = self._max_header_bytes, [_NO_FIELDS] * len(headers)
        for number, packed in enumerate(headers):
            if len(packed) > limit:
                rule = f"the headers have {len(packed)} bytes; the limit is {limit}"
                rejected[number] = Rejected("headers_too_large", rule)
                continue
            try:
                fields[number] = _fields(packed[: headers_layout(packed).num_bytes])
            except HeadersError:
                rejected[number] = Rejected("malformed", "the headers cannot be read")
        return fields

    def place(self, label: str | int) -> int | str:
        """Return the place of a label from a body or a user's decoder; a name wins over an index.

        Where labels are open, one that is none of the classes is returned as it is.

        Raises:
            RejectionError: It is none of the classes, or can be the name of none.
        """
        try:
            text = str(label)
        except ValueError:
            text = ""  # Python writes out no integer of thousands of digits
        place = self._labels.get(text)
        if place is not None:
            return place
        if self._has_open_labels and _is_name(text):
            return text
        raise RejectionError("unknown_label", f"the label {self._rule}")

    @property
    def _rule(self) -> str:
        rule = f"is none of the {self._num_classes} classes"
        if self._has_open_labels:
            rule += f", nor at most {MAX_NAME_BYTES} bytes of printable UTF-8 that could name one"
        return rule

    def _places_of(
        self,
        headers: Sequence[bytes],
        parts: Sequence[slice],
        rejected: dict[int, Rejected],
        named: dict[int, str],
    ) -> Sequence[int]:
        if not self._reads_labels:
            return [NO_LABEL] * len(headers)
        labels = [packed[part] for packed, part in zip(headers, parts, strict=True)]
        places: list[int] = list(map(self._encoded_labels.get, labels, repeat(NO_LABEL)))
        if NO_LABEL in places:
            for number, (label, place) in enumerate(zip(labels, places, strict=True)):
                if place != NO_LABEL or not label:
                    continue
                name = _name(label) if self._has_open_labels else None
                if name is None:
                    shown = ascii(label.decode("latin-1"))[:_SHOWN_LABEL_CHARACTERS]
                    rejected[number] = Rejected("unknown_label", f"the label {shown} {self._rule}")
                else:
                    named[number], places[number] = name, NAMED
        return places


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


def _fields(layout: bytes) -> _Fields:
    """Return where a layout has the fields.

    Raises:
        HeadersError: It is none, or not a whole one.
    """
    return _known_fields(layout) if len(layout) <= MAX_CACHED_BYTES else _find_fields(layout)


def _find_fields(layout: bytes) -> _Fields:
    read = read_layout(layout)
    found = dict(zip(read.names, read.slices, strict=True))
    names = ("content-type", "label", "id", "event-time")
    content_type, *others = [found.get(name, _NOWHERE) for name in names]
    # Cut: what is cached by it must not grow with what producers send.
    content_type = slice(
        content_type.start, min(content_type.stop, content_type.start + _MAX_CONTENT_TYPE_BYTES)
    )
    return _Fields(read.total_bytes, content_type, *others)


_known_fields = functools.lru_cache(maxsize=4096)(_find_fields)


def _values(headers: Sequence[bytes], parts: Sequence[slice]) -> Sequence[bytes] | None:
    """Return a column of values; None if all of them are empty."""
    if parts.count(_NOWHERE) == len(parts):
        return None
    return [packed[part] for packed, part in zip(headers, parts, strict=True)]


def _checked_ids(
    ids: Sequence[bytes] | None, num_records: int, rejected: dict[int, Rejected]
) -> Sequence[bytes | None]:
    if ids is None:
        return (None,) * num_records
    if max(map(len, ids)) > MAX_ID_BYTES:
        for number, each in enumerate(ids):
            if len(each) > MAX_ID_BYTES:
                rule = f"the id has {len(each)} bytes; the limit is {MAX_ID_BYTES}"
                rejected[number] = Rejected("bad_id", rule)
    return [each or None for each in ids]


def _event_times(
    times: Sequence[bytes] | None, timestamps_ms: Sequence[int], rejected: dict[int, Rejected]
) -> Sequence[int]:
    if times is None:
        return timestamps_ms
    times_ms = list(timestamps_ms)
    for number, text in enumerate(times):
        if text:
            try:
                times_ms[number] = parse_event_time(text)
            except RejectionError as error:
                rejected[number] = error.rejected
    return times_ms


@functools.lru_cache(maxsize=4096)
def _name(label: bytes) -> str | None:
    """Return the label as the name of a class, None where it can be none; cached as one object."""
    if len(label) > MAX_NAME_BYTES:
        return None
    try:
        text = label.decode()
    except UnicodeDecodeError:
        return None
    return text if _is_name(text) else None


def _is_name(text: str) -> bool:
    is_short = len(text) <= MAX_NAME_BYTES and len(text.encode(errors="replace")) <= MAX_NAME_BYTES
    return is_short and text.isprintable() and bool(text.strip())


def _bad_event_time() -> RejectionError:
    return RejectionError(
        "bad_event_time", "event-time is neither milliseconds since the epoch nor ISO 8601"
    )


@functools.lru_cache(maxsize=256)
def _plain_content_type(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def _places(classes: Sequence[str]) -> dict[str, int]:
    """Return the place of each label; names come last, so that they win over indices."""
    places = {str(place): place for place in range(len(classes))}
    return places | {name: place for place, name in enumerate(classes)}
