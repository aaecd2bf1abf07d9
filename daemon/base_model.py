"""Base models: version 0 as a folder, before any lineage exists."""

import errno
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml
from torch import nn

from teacherd.daemon.durable import TEMPORARY_PREFIX, remove, sync_directory, write_folder
from teacherd.daemon.errors import StateError, UsageError
from teacherd.models.artifact import ArtifactError, Manifest, read_manifest, write_artifact
from teacherd.models.design import Design
from teacherd.models.provenance import Provenance

NO_LINEAGE = ""
"""The lineage of a base model: it gets one when a daemon opens a lineage with it."""


def write_base(
    out: Path,
    network: nn.Module,
    design: Design,
    *,
    metrics: Mapping[str, float],
) -> Manifest:
    """Write a base model folder; one that is there already is replaced, once the new one is whole.

    Raises:
        UsageError: The place is taken by something that is no base model.
        StateError: The disk refused.
    """
    require_place(out)
    provenance = Provenance(
        lineage=NO_LINEAGE,
        verdict={"result": "base"},
        metrics=metrics,
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )

    def fill(folder: Path) -> Manifest:
        return write_artifact(folder, network, design, provenance)

    place = out.resolve()
    fresh = place.with_name(f"{TEMPORARY_PREFIX}{place.name}")
    try:
        if fresh.exists():
            remove(fresh)
        manifest = write_folder(fresh, fill, name="base")
        if place.exists():
            remove(place)
        fresh.rename(place)
        sync_directory(place.parent)
    except OSError as error:
        raise StateError(out, f"cannot be written: {error.strerror or error}") from error
    return manifest


def require_place(out: Path) -> None:
    """Refuse to overwrite what is no base model; asked before long work, too.

    Raises:
        UsageError: Something else is there.
    """
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            read_manifest(out)
        _require_writable(out.resolve().parent)
    except OSError as error:
        raise UsageError(
            f"--out: {out} cannot be used: {error.strerror}; name another folder"
        ) from error
    except ArtifactError as error:
        raise UsageError(
            f"--out: {out} holds something that is no base model; name another folder"
        ) from error


def _require_writable(directory: Path) -> None:
    while not directory.exists():
        directory = directory.parent
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"{directory} is not a writable directory")


def parse_arguments(arguments: Sequence[str]) -> dict[str, bool | int | float | str]:
    """Read `name=value` pairs; values are YAML scalars.

    Raises:
        UsageError: One is not of that form.
    """
    parsed = {}
    for argument in arguments:
        name, _, text = argument.partition("=")
        value = _scalar(text)
        if value is None or not name.isidentifier():
            raise UsageError(f"--argument: {argument!r} is not of the form name=value")
        parsed[name] = value
    return parsed


def _scalar(text: str) -> bool | int | float | str | None:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return value if isinstance(value, bool | int | float | str) else None
