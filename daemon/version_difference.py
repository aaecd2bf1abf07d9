"""What lies between two versions, as log and folders tell it: asked before promote or rollback."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from teacherd.daemon.config import Config, DecidingConfig, flatten
from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.version_listing import gate_word, read_versions, require_version
from teacherd.daemon.version_origins import Origin, find_origins
from teacherd.models.artifact import (
    WEIGHTS,
    ArtifactError,
    read_manifest,
    read_tensors,
    version_folder,
)
from teacherd.models.weights_distance import WeightsDistance, measure_distance

_MEASURED = ("accuracy.", "forgetting.")
_HOLDOUT = "holdout."
"""How figures begin that two versions can be compared by."""


def diff_versions(config: Config, before: int | None, after: int | None) -> dict[str, Any]:
    """Return what `after` is that `before` is not; nothing is measured anew.

    Args:
        config: Names the state directory.
        before: None takes the parent of the other one.
        after: None takes the served version.

    Raises:
        UsageError: There is no such version.
        StateError: A version's files are not what manifest and log say.
    """
    entries, lineage, root = read_versions(config)
    origins = find_origins(entries)
    new = (lineage.current or 0) if after is None else after
    require_version(lineage, new)
    old = _parent(origins, new) if before is None else before
    require_version(lineage, old)
    fork = max(set(_ancestry(origins, old)) & set(_ancestry(origins, new)))
    learned, undone = (_tasks(origins, version, since=fork) for version in (new, old))
    one, other = origins[old], origins[new]
    return {
        "from": old,
        "to": new,
        "fork": fork,
        "is_same": one.record.sha256 == other.record.sha256,
        "learned": learned,
        "undone": undone,
        "instances_learned": sum(task["instances"] for task in learned),
        "instances_undone": sum(task["instances"] for task in undone),
        "classes_added": _missing(one, other),
        "classes_removed": _missing(other, one),
        "figures": _figures(origins, old, new),
        "settings": _differences(_settings(one), _settings(other)),
        "runtime": _differences(one.runtime, other.runtime),
        "weights": _weights(root, one, other),
        "bytes": [_num_bytes(root, old), _num_bytes(root, new)],
    }


def _parent(origins: Mapping[int, Origin], version: int) -> int:
    parent = origins[version].record.parent
    if parent is None:
        raise UsageError(
            f"version {version} has no parent to compare it with; name two versions, as in "
            f"`teacherd versions diff {version} {max(origins)}`"
        )
    return parent


def _ancestry(origins: Mapping[int, Origin], version: int | None) -> Iterator[int]:
    """Yield a version, its parent, that one's, down to version 0."""
    while version is not None:
        yield version
        version = origins[version].record.parent


def _tasks(origins: Mapping[int, Origin], version: int, *, since: int) -> list[dict[str, Any]]:
    """Return the tasks that a version has learned since an ancestor, oldest first."""
    rows = []
    for number in _ancestry(origins, version):
        if number == since:
            break
        origin = origins[number]
        if origin.plan is not None:
            rows.append(
                {
                    "task": origin.plan.task,
                    "version": number,
                    "cause": origin.plan.cause,
                    "instances": origin.plan.num_instances,
                    "new_classes": list(origin.plan.new_classes),
                    "gate": gate_word(origin.logged),
                    "at": origin.logged.written_at,
                }
            )
    return rows[::-1]


def _missing(one: Origin, other: Origin) -> list[str]:
    return [name for name in other.record.classes if name not in one.record.classes]


def _figures(origins: Mapping[int, Origin], old: int, new: int) -> dict[str, list[float | None]]:
    """Return accuracy and forgetting of both by name, as they were measured then.

    Of holdouts those that both were measured with.
    """
    one, other = (_measured(origins, version) for version in (old, new))
    # Version 0 has no outcome: others say how much better or worse than it they are.
    one, other = one or _of_version_0(other), other or _of_version_0(one)
    names = [name for start in _MEASURED for name in {**other, **one} if name.startswith(start)]
    names += [name for name in other if name.startswith(_HOLDOUT) and name in one]
    return {name: [one.get(name), other.get(name)] for name in names}


def _measured(origins: Mapping[int, Origin], version: int) -> dict[str, float]:
    """Return the figures of a version; of one that a rollback made those of the weights it has."""
    origin = origins[version]
    if origin.outcome is None:
        parent = origin.record.parent
        return {} if parent is None else _measured(origins, parent)
    return {
        name: value
        for name, value in origin.outcome.figures.items()
        if name.startswith((*_MEASURED, _HOLDOUT))
    }


def _of_version_0(figures: Mapping[str, float]) -> dict[str, float]:
    """Return what figures of another version say about version 0, on the same sets."""
    names = [name.removeprefix("forgetting.") for name in figures if name.startswith("forgetting.")]
    accuracy = {
        f"accuracy.{name}": figures[f"accuracy.{name}"] + figures[f"forgetting.{name}"]
        for name in names
    }
    return accuracy | {f"forgetting.{name}": 0.0 for name in names}


def _settings(origin: Origin) -> dict[str, Any]:
    """Return the settings that decided a version's weights, by dotted key.

    What an older log does not say has the meaning that it had then.
    """
    if not origin.settings:
        return {}
    return flatten(asdict(DecidingConfig.from_entry(origin.settings)))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what differs by key; nothing where one of them was decided by no settings."""
    if not one or not other:
        return {}
    keys = sorted(one.keys() | other.keys())
    return {key: [one.get(key), other.get(key)] for key in keys if one.get(key) != other.get(key)}


def _weights(root: Path, one: Origin, other: Origin) -> dict[str, Any] | None:
    """Return how far the weights lie apart, by module; None where a version was removed."""
    tensors = [_tensors(root, origin) for origin in (one, other)]
    before, after = tensors
    if before is None or after is None:
        return None
    modules = measure_distance(before, after)
    total = sum(modules.values(), WeightsDistance())
    return {
        **_words(total),
        "modules": {name: _words(distance) for name, distance in modules.items()},
    }


def _words(distance: WeightsDistance) -> dict[str, Any]:
    return {
        "relative_change": distance.relative_change,
        "changed_ratio": distance.changed_ratio,
        "elements": distance.num_elements,
        "new_elements": distance.num_new,
    }


def _tensors(root: Path, origin: Origin) -> dict[str, Tensor] | None:
    """Read a version's weights, held against the log.

    Raises:
        StateError: They are not what it says.
    """
    folder = version_folder(root, origin.record.version)
    if not folder.exists():
        return None
    try:
        manifest = read_manifest(folder)
        if manifest.weights_sha256 != origin.record.sha256:
            raise StateError(folder, "has weights that are not those of the lineage log")
        return read_tensors(folder, manifest)
    except ArtifactError as error:
        raise StateError(folder, str(error)) from error


def _num_bytes(root: Path, version: int) -> int | None:
    path = version_folder(root, version) / WEIGHTS
    return path.stat().st_size if path.exists() else None
