"""Reading a dataclass from JSON strictly: no key unknown, none missing, none of another type."""

import dataclasses
import json
import math
import types
import typing
from typing import Any, Never, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

OPTIONAL = "optional"
"""In the metadata of a dataclass's field: JSON may lack it, and its default is what that means."""

_SHOWN_CHARACTERS = 80
_MESSAGE_CHARACTERS = 500
"""A megabyte in the wrong place must not become a megabyte of log."""


class StrictJsonError(ValueError):
    """The text is not the JSON that was asked for. The message names the key and its value."""

    def __init__(self, message: str) -> None:
        super().__init__(_cut(message, _MESSAGE_CHARACTERS))


def parse(kind: type[T], text: bytes) -> T:
    """Return the dataclass that the text describes.

    Understands the annotations that manifests use: bool, int, float, str, None, Any, tuples of any
    length, dictionaries with string keys, unions, and dataclasses. An integer may stand for a
    float; nothing else may stand for anything else. A field that is `OPTIONAL` may be missing, and
    is never null.

    Raises:
        StrictJsonError: It is not such JSON, or the dataclass itself refuses a value.
    """
    try:
        data = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
        )
    except StrictJsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise StrictJsonError(f"is not JSON: {error}") from error
    parsed: T = _convert(kind, data, "")
    return parsed


def _convert(kind: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - any annotation, any JSON
    """Return the JSON value as the annotated kind."""
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(kind, value, key)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(kind, value, key)
    if origin is tuple and isinstance(value, list):
        element = get_args(kind)[0]
        return tuple(_convert(element, item, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        element = get_args(kind)[1]
        return {name: _convert(element, item, f"{key}.{name}") for name, item in value.items()}
    # By exact type: to Python, but not to the reader of a manifest, True is an integer.
    if kind is not Any and type(value) is not kind and (kind, type(value)) != (float, int):
        raise StrictJsonError(f"{key}: {_shown(value)}: must be {_name(kind)}")
    try:
        return float(value) if kind is float else value
    except OverflowError as error:
        raise StrictJsonError(f"{key}: {_shown(value)}: is too large for a float") from error


def _convert_union(kind: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - see _convert
    for member in get_args(kind):
        try:
            return _convert(member, value, key)
        except StrictJsonError:
            continue
    raise StrictJsonError(f"{key}: {_shown(value)}: must be {_name(kind)}")


def _convert_dataclass(kind: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - see _convert
    if not isinstance(value, dict):
        raise StrictJsonError(f"{key or 'all of it'}: {_shown(value)}: must be an object")
    annotations = get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in (name for name in value if name not in annotations):
        raise StrictJsonError(f"{prefix}{name}: {_shown(value[name])}: is not a known key")
    may_lack = {each.name for each in dataclasses.fields(kind) if OPTIONAL in each.metadata}
    for name in (name for name in annotations if name not in value and name not in may_lack):
        raise StrictJsonError(f"{prefix}{name}: is missing")
    for name in (name for name in may_lack if name in value and value[name] is None):
        raise StrictJsonError(f"{prefix}{name}: null: must be left out instead")
    arguments = {
        name: _convert(annotation, value[name], f"{prefix}{name}")
        for name, annotation in annotations.items()
        if name in value
    }
    try:
        return kind(**arguments)
    except ValueError as error:
        raise StrictJsonError(f"{prefix}{error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise StrictJsonError(f"{name}: {_shown(value)}: is given twice")
        result[name] = value
    return result


def _refuse_constant(name: str) -> Never:
    raise StrictJsonError(f"{name} is no number of JSON")


def _parse_float(text: str) -> float:
    """Refuse what would become infinite: it could be read, and never be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError(f"{_shown(text)} is too large for a float")
    return number


def _shown(value: object) -> str:
    return _cut(repr(value), _SHOWN_CHARACTERS)


def _cut(text: str, num_characters: int) -> str:
    return text if len(text) <= num_characters else f"{text[:num_characters]}..."


def _name(kind: Any) -> str:  # noqa: ANN401 - any annotation
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
