"""How a lineage begins, and how it is found again: version 0, base model, classes."""

import secrets
from pathlib import Path

import structlog
import torch

from teacherd.daemon.config import DecidingConfig, ModelConfig
from teacherd.daemon.entries import Open, Publish
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.publisher import Publisher
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.artifact import (
    ArtifactError,
    LoadedTeacher,
    Manifest,
    load_artifact,
    write_artifact,
)
from teacherd.models.provenance import Provenance


def open_lineage(config: ModelConfig, state: StateDirectory, *, seed: int, now: str) -> None:
    """Make the base model version 0 of a new lineage, or check that it is this lineage's.

    Raises:
        ConfigurationError: There is no usable base model, it has other classes than the
            configuration, or the state directory belongs to a lineage with another base.
    """
    if state.journal.is_new:
        base = load_base(config)
        require_classes(config, base.manifest)
        _begin(state, base, seed=seed, now=now)
    else:
        _require_same_base(config, state)
    Publisher(state.journal, state.versions, mode="automatic", now=lambda: now).mend()
    _mend_publication(state)


def load_head(
    state: StateDirectory, config: ModelConfig, *, device: torch.device | str = "cpu"
) -> LoadedTeacher:
    """Load the version that the next task starts from.

    Raises:
        ConfigurationError: It has other classes than the configuration.
        StateError: It is not what the lineage log says.
    """
    head = load_version(state, state.journal.lineage.head, device=device)
    require_classes(config, head.manifest)
    return head


def load_version(
    state: StateDirectory, version: int, *, device: torch.device | str = "cpu"
) -> LoadedTeacher:
    """Load a version of the lineage.

    Raises:
        StateError: It is not what the lineage log says.
    """
    record = state.journal.lineage.versions[version]
    return state.versions.load(
        record.version, record.sha256, record.manifest_sha256, device=str(device)
    )


def _begin(state: StateDirectory, base: LoadedTeacher, *, seed: int, now: str) -> None:
    lineage_id = secrets.token_hex(8)
    manifest = base.manifest

    provenance = Provenance(
        lineage=lineage_id,
        verdict={"result": "base"},
        metrics=manifest.metrics,
        created_at=now,
    )
    written = state.versions.write(
        0, lambda folder: write_artifact(folder, base.network, manifest.design, provenance)
    )
    state.journal.record(
        Open(
            lineage=lineage_id,
            seed=seed,
            sha256=written.weights_sha256,
            classes=manifest.classes,
            manifest_sha256=state.versions.manifest_sha256(0),
        )
    )
    structlog.get_logger().info("lineage_opened", lineage=lineage_id, classes=len(manifest.classes))


def _mend_publication(state: StateDirectory) -> None:
    """Carry out what was decided before a crash: the publish entry, and the pointer to it."""
    lineage = state.journal.lineage
    due = 0 if lineage.current is None else lineage.unpublished
    if due is not None:
        probation = _probation_tasks(lineage) if due else 0
        state.journal.record(Publish(version=due, probation_tasks=probation))
    current = lineage.versions[lineage.current or 0]
    manifest = state.versions.load(
        current.version, current.sha256, current.manifest_sha256
    ).manifest
    if not state.versions.serves(manifest):
        if due is None:
            structlog.get_logger().warning("current_mended", version=current.version)
        state.versions.serve(manifest)


def _probation_tasks(lineage: Lineage) -> int:
    """Return for how many tasks what was decided last is on probation."""
    settings = lineage.settings
    if settings is None:
        return 0
    return DecidingConfig.from_entry(settings.settings).gate.probation_tasks


def load_base(config: ModelConfig) -> LoadedTeacher:
    """Load and verify the base model.

    Raises:
        ConfigurationError: There is none, or it is damaged.
    """
    folder = Path(config.base)
    if not folder.is_dir():
        raise ConfigurationError(
            [
                Problem(
                    "model.base",
                    f"{folder} is no folder; make one with `teacherd adopt` from your own network "
                    "or with `teacherd pretrain` from labelled data",
                )
            ]
        )
    try:
        return load_artifact(folder)
    except ArtifactError as error:
        raise ConfigurationError([Problem("model.base", str(error))]) from error


def first_classes(manifest: Manifest) -> tuple[str, ...]:
    """Return the classes that the lineage of a version has begun with: the configured ones."""
    return manifest.classes[: manifest.increments[0]] if manifest.increments else manifest.classes


def require_classes(config: ModelConfig, manifest: Manifest) -> None:
    """Hold the configured classes against a model's.

    Raises:
        ConfigurationError: They differ.
    """
    found = first_classes(manifest)
    if config.classes is None or tuple(config.classes) == found:
        return
    missing = [name for name in config.classes if name not in found]
    extra = [name for name in found if name not in config.classes]
    difference = (
        f"the base model lacks {missing} and has {extra} besides"
        if missing or extra
        else "the order differs"
    )
    raise ConfigurationError(
        [
            Problem(
                "model.classes",
                f"{len(config.classes)} classes are not the base model's "
                f"{len(found)}: {difference}; "
                "set model.classes to null or to the classes of the base model",
            )
        ]
    )


def _require_same_base(config: ModelConfig, state: StateDirectory) -> None:
    """Refuse a base that is not this lineage's; one that is gone meanwhile does not matter."""
    if not Path(config.base).is_dir():
        return
    base = load_base(config)
    opening = state.journal.lineage.opening
    if opening is not None and base.manifest.weights_sha256 != opening.sha256:
        raise ConfigurationError(
            [
                Problem(
                    "model.base",
                    f"{config.base} is not version 0 of the lineage in the state directory "
                    f"({opening.lineage}); give the other base a state directory of its own",
                )
            ]
        )
