"""Turns the body of a POST into records, or tells everything that is wrong with it.

What a record then is, is the decoder's to say: a label that is no class becomes a dead letter.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from teacherd.consumers.decoding import JSON, DecodingConfig
from teacherd.consumers.description import MAX_ID_BYTES, parse_event_time
from teacherd.consumers.headers import HeadersError, pack_headers
from teacherd.consumers.image_decoding import image_content_type
from teacherd.consumers.instance import RejectionError
from teacherd.consumers.record import NewRecord
from teacherd.daemon.errors import Problem

_SHOWN_CHARACTERS = 80
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
_KINDS = ("features", "image", "value")


class RefusedPostError(Exception):
    """Nothing was appended; carries every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Posted:
    """One instance, with exactly one of features, image and value."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    features: list[float] | None = None
    image: str | None = None
    """PNG, JPEG or WebP as base64."""
    value: str | None = None
    """Any value as base64, of `content_type`."""
    content_type: str | None = None
    label: str | int | None = None
    id: str | None = None
    event_time: str | int | None = None
    """ISO 8601, or milliseconds since the epoch."""
    key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Body:
    """What is posted as JSON."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    instances: list[_Posted]


_BODY = TypeAdapter(_Body)
_POSTED = TypeAdapter(_Posted)


def read_posted(
    body: bytes, content_type: str, query: Mapping[str, str], limits: DecodingConfig
) -> list[NewRecord]:
    """Return the records that a request asks to append, at least one.

    JSON carries any number of instances; with another content type the body is the value of one,
    which the query describes.

    Raises:
        RefusedPostError: Something is wrong with the request or with one of its instances.
    """
    plain_type = content_type.partition(";")[0].strip().lower()
    if plain_type in ("", *_FORM_TYPES):
        rule = f"{content_type!r}: must say what the body is; send {JSON}, or the value's own type"
        raise RefusedPostError([Problem("content-type", rule)])
    if plain_type == JSON and not query:
        return _read_json(body, limits)
    try:
        # By way of JSON: plain data is not taken for a dataclass where types are strict.
        described = json.dumps({**query, "content_type": content_type, "value": ""})
        posted = _POSTED.validate_json(described)
    except ValidationError as error:
        raise RefusedPostError(_problems(error, "query")) from error
    return _records([_Named("query", posted, body)], limits)


@dataclass(frozen=True, slots=True)
class _Named:
    """An instance, and where in the request it is."""

    name: str
    posted: _Posted
    value: bytes | None = None
    """Where the body is the value."""


def _read_json(body: bytes, limits: DecodingConfig) -> list[NewRecord]:
    try:
        posted = _BODY.validate_json(body).instances
    except ValidationError as error:
        raise RefusedPostError(_problems(error, "body")) from error
    if not posted:
        rule = "[]: there must be at least one; leave the request out"
        raise RefusedPostError([Problem("instances", rule)])
    named = [_Named(f"instances[{place}]", each) for place, each in enumerate(posted)]
    return _records(named, limits)


def _problems(error: ValidationError, where: str) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False):
        path = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]
        ).lstrip(".")
        if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = ", ".join(field.name for field in fields(_Posted))
            message = f"unknown; known here: {known}"
        else:
            message = f"{_shown(detail['input'])}: {detail['msg']}"
        problems.append(Problem(path or where, message))
    return problems


def _records(named: Sequence[_Named], limits: DecodingConfig) -> list[NewRecord]:
    records, problems = [], []
    for each in named:
        try:
            records.append(_record(each, limits))
        except _RefusedError as error:
            key = f"{each.name}.{error.field}" if error.field else each.name
            problems.append(Problem(key, error.message))
    if problems:
        raise RefusedPostError(problems)
    return records


class _RefusedError(Exception):
    """One field of one instance cannot be taken."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def _record(named: _Named, limits: DecodingConfig) -> NewRecord:
    posted = named.posted
    content_type, value = _payload(named)
    if not 0 < len(value) <= limits.max_record_bytes:
        rule = f"must have 1 to decoding.max_record_bytes, {limits.max_record_bytes}; resize it"
        raise _RefusedError("value", f"{len(value)} bytes: {rule}")
    if posted.label in (None, "") and limits.decoder is None:
        raise _RefusedError("label", "null: must be the name or index of a class; give it")
    headers = [("content-type", content_type.encode())]
    if posted.label not in (None, ""):
        headers.append(("label", str(posted.label).encode()))
    if posted.id is not None:
        headers.append(("id", _id(posted.id)))
    if posted.event_time is not None:
        headers.append(("event-time", _event_time(posted.event_time)))
    _check_headers(tuple(headers), limits)
    key = None if posted.key is None else posted.key.encode()
    return NewRecord(value, tuple(headers), key)


def _payload(named: _Named) -> tuple[str, bytes]:
    """Return content type and value."""
    posted = named.posted
    if named.value is not None:
        return posted.content_type or "", named.value
    given = [kind for kind in _KINDS if getattr(posted, kind) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise _RefusedError("", f"{found}: exactly one of {', '.join(_KINDS)} must be there")
    if (posted.content_type is None) != (posted.value is None):
        raise _RefusedError("content_type", "must be there with `value`, and only with it")
    if posted.features is not None:
        if not all(map(math.isfinite, posted.features)):
            raise _RefusedError("features", "holds NaN or infinity: must be finite; drop it")
        return JSON, json.dumps({"features": posted.features}).encode()
    field = "image" if posted.value is None else "value"
    value = _base64(field, posted.image or posted.value or "")
    if posted.value is not None:
        return posted.content_type or "", value
    kind = image_content_type(value)
    if kind is None:
        raise _RefusedError("image", "holds neither PNG nor JPEG nor WebP; encode it as one")
    return kind, value


def _base64(field: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        rule = "must be base64 without line breaks; encode the bytes"
        raise _RefusedError(field, f"{_shown(text)}: {rule}") from error


def _id(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > MAX_ID_BYTES:
        rule = f"must have at most {MAX_ID_BYTES}; take a shorter one"
        raise _RefusedError("id", f"{len(encoded)} bytes: {rule}")
    return encoded


def _event_time(moment: str | int) -> bytes:
    encoded = str(moment).encode()
    try:
        parse_event_time(encoded)
    except RejectionError as error:
        rule = "must be milliseconds since the epoch or ISO 8601; leave it out for now"
        raise _RefusedError("event_time", f"{_shown(moment)}: {rule}") from error
    return encoded


def _check_headers(headers: tuple[tuple[str, bytes], ...], limits: DecodingConfig) -> None:
    try:
        length = len(pack_headers(headers))
    except HeadersError as error:
        raise _RefusedError("", str(error)) from error
    if length > limits.max_header_bytes:
        rule = f"must have at most decoding.max_header_bytes, {limits.max_header_bytes}"
        raise _RefusedError("", f"headers of {length} bytes: {rule}; shorten the label")


def _shown(value: object) -> str:
    return ascii(value)[:_SHOWN_CHARACTERS]
