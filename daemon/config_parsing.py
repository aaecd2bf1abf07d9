"""Turns plain data (YAML, environment, flags) into a tree of dataclasses, all errors at once.

The dataclasses belong to the rooms and know no configuration library; pydantic fills them in, and
this module adds what it lacks: unknown keys, more than one broken rule per section, dotted keys.
"""

import difflib
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from teacherd.daemon.errors import ConfigurationError, Problem

T = TypeVar("T")

ENVIRONMENT_PREFIX = "TEACHERD_"
_PLAIN_VARIABLES = ("TEACHERD_SOURCE",)
"""Those of keys that lie in no section; other variables of that form are not settings."""
_MAX_ROUNDS = 100


def parse(config_type: type[T], raw: Mapping[str, Any], *, origin: str) -> T:
    """Build the dataclass from nested plain data.

    Raises:
        ConfigurationError: Carries every unknown key, wrong type and broken rule.
    """
    data = _plain_copy(raw)
    problems = _remove_misfits(config_type, data, "")
    adapter = TypeAdapter(config_type)
    for _ in range(_MAX_ROUNDS):
        try:
            result = adapter.validate_python(data)
        except ValidationError as error:
            # A section reports only its first broken rule: take the culprit out and look again.
            found = [_remove_culprit(data, detail) for detail in error.errors()]
            problems += found
        else:
            break
    if problems:
        raise ConfigurationError(_unique(problems), origin=origin)
    return result


def overlay_environment(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Lay `TEACHERD_SECTION__KEY=value` over nested data; values are read as YAML.

    Raises:
        ConfigurationError: One cannot be read, or its key lies below a plain value.
    """
    for name, value in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and ("__" in name or name in _PLAIN_VARIABLES):
            keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            origin = f"environment variable {name}"
            set_key(raw, keys, _scalar(value, ".".join(keys), origin), origin=origin)


def overlay_assignments(raw: dict[str, Any], assignments: Sequence[str]) -> None:
    """Lay `section.key=value` flags over nested data.

    Raises:
        ConfigurationError: One is not of that form.
    """
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key:
            raise ConfigurationError(
                [Problem("--set", f"{assignment!r} is not of the form section.key=value")],
                origin="command line",
            )
        origin = f"--set {assignment}"
        set_key(raw, key.split("."), _scalar(value, key, origin), origin=origin)


def set_key(raw: dict[str, Any], keys: Sequence[str], value: object, *, origin: str) -> None:
    """Set a nested key, making the sections on the way.

    Raises:
        ConfigurationError: A key on the way holds a value instead of a section.
    """
    for key in keys[:-1]:
        if raw.get(key) is None:
            raw[key] = {}  # also for `section:` with every key commented out
        section = raw[key]
        if not isinstance(section, dict):
            raise ConfigurationError(
                [Problem(".".join(keys), f"{key} holds a value, not a section")], origin=origin
            )
        raw = section
    raw[keys[-1]] = value


def keys_of(config_type: type, prefix: str = "") -> list[str]:
    """Return every dotted key of a tree of dataclasses, in the order of declaration."""
    keys = []
    for name, inner in _fields(config_type).items():
        section = _section_type(inner)
        keys += keys_of(section, f"{prefix}{name}.") if section else [f"{prefix}{name}"]
    return keys


def _scalar(text: str, key: str, origin: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            [Problem(key, f"{text!r} is no YAML value; put quotes around it")], origin=origin
        ) from error


def _remove_misfits(config_type: type, data: dict[str, Any], prefix: str) -> list[Problem]:
    """Take out what pydantic would pass over.

    That is unknown keys, yes/no given for a number, and .nan and .inf, which no setting can mean:
    NaN would pass every rule of a section, because no comparison with it holds.
    """
    problems = []
    known = _fields(config_type)
    for key in list(data):
        dotted = f"{prefix}{key}"
        value = data[key]
        if key not in known:
            problems.append(Problem(dotted, _unknown_key(str(key), list(known))))
            del data[key]
            continue
        section = _section_type(known[key])
        if section and value is None:
            del data[key]  # `section:` with every key commented out
        elif section and isinstance(value, dict):
            problems += _remove_misfits(section, value, f"{dotted}.")
        elif isinstance(value, dict) and (inner := _named_section_type(known[key])):
            for name, named in value.items():
                if isinstance(named, dict):
                    problems += _remove_misfits(inner, named, f"{dotted}.{name}.")
        elif isinstance(value, bool) and not _takes(known[key], bool):
            problems.append(Problem(dotted, f"{value} is no {_name(known[key])}; write one"))
            del data[key]
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem(dotted, f"{value}: must be finite; write a number"))
            del data[key]
    return problems


def _remove_culprit(data: dict[str, Any], detail: Any) -> Problem:  # noqa: ANN401 (pydantic's own)
    """Take the key that a pydantic error is about out of the data, and word the error."""
    path = [str(part) for part in detail["loc"]]
    message = detail["msg"]
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"])
        # A section's own rule: "field: value, rule and fix".
        field, separator, rest = message.partition(": ")
        section = _find(data, path)
        if separator and (field.isidentifier() or "." in field):
            path, message = [*path, *field.split(".")], rest
        elif isinstance(section, dict):
            section.clear()
    else:
        message = f"{detail['input']!r}: {message[0].lower()}{message[1:]}"
    dotted = ".".join(path)
    while path and not _delete(data, path):
        path.pop()
    return Problem(dotted, message)


def _find(data: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 (plain data of any shape)
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _delete(data: dict[str, Any], path: Sequence[str]) -> bool:
    parent = _find(data, path[:-1])
    if isinstance(parent, dict) and path[-1] in parent:
        del parent[path[-1]]
        return True
    return False


def _unknown_key(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _fields(config_type: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config_type)
    return {field.name: hints[field.name] for field in fields(config_type)}


def _section_type(annotation: Any) -> type | None:  # noqa: ANN401 (an annotation is any object)
    for option in _options(annotation):
        if isinstance(option, type) and is_dataclass(option):
            return option
    return None


def _named_section_type(annotation: Any) -> type | None:  # noqa: ANN401 (as above)
    """Return the sections' type where a key holds sections by name."""
    if typing.get_origin(annotation) is not dict:
        return None
    return _section_type(typing.get_args(annotation)[1])


def _takes(annotation: Any, wanted: type) -> bool:  # noqa: ANN401 (an annotation is any object)
    return any(option in (wanted, Any) for option in _options(annotation)) or (
        typing.get_origin(annotation) is dict
    )


def _options(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 (an annotation is any object)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _name(annotation: Any) -> str:  # noqa: ANN401 (an annotation is any object)
    return getattr(annotation, "__name__", str(annotation))


def _plain_copy(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _plain_copy(value) if isinstance(value, Mapping) else value
        for key, value in raw.items()
    }


def _unique(problems: Sequence[Problem]) -> list[Problem]:
    return list({str(problem): problem for problem in problems}.values())


def read_environment() -> Mapping[str, str]:
    """Return the process's environment; nothing else in the daemon reads it for settings."""
    return os.environ
