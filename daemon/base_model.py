"""Base models: version 0 as a folder, before any lineage exists."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml
from torch import nn

from teacherd.daemon.durable import write_folder
from teacherd.daemon.errors import UsageError
from teacherd.models.artifact import ArtifactError, Manifest, read_manifest, write_artifact
from teacherd.models.backbone import BackboneConfig
from teacherd.models.preprocessing import Preprocessing

NO_LINEAGE = ""
"""The lineage of a base model: it gets one when a daemon opens a lineage with it."""


def write_base(
    out: Path,
    network: nn.Module,
    *,
    architecture: BackboneConfig,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    metrics: Mapping[str, float],
) -> Manifest:
    """Write a base model folder; one that is there already is replaced, anything else is not.

    Raises:
        UsageError: The place is taken by something that is no base model.
        StateError: The disk refused.
    """
    require_place(out)

    def fill(folder: Path) -> Manifest:
        return write_artifact(
            folder,
            network,
            lineage=NO_LINEAGE,
            epoch=1,
            version=0,
            architecture=architecture,
            classes=classes,
            preprocessing=preprocessing,
            sigma=None,
            parent=None,
            tasks=(),
            verdict={"result": "base"},
            metrics=dict(metrics),
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        shutil.rmtree(out)
    return write_folder(out, fill, name="base")


def require_place(out: Path) -> None:
    """Refuse to overwrite what is no base model; asked before long work, too.

    Raises:
        UsageError: Something else is there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        read_manifest(out)
    except ArtifactError as error:
        raise UsageError(
            f"--out: {out} holds something that is no base model; name another folder"
        ) from error


def parse_arguments(arguments: Sequence[str]) -> dict[str, bool | int | float | str]:
    """Read `name=value` pairs; values are YAML scalars.

    Raises:
        UsageError: One is not of that form.
    """
    parsed = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        value = yaml.safe_load(text)
        if (
            not separator
            or not name.isidentifier()
            or not isinstance(value, bool | int | float | str)
        ):
            raise UsageError(f"--argument: {argument!r} is not of the form name=value")
        parsed[name] = value
    return parsed
