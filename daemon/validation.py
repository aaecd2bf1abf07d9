"""Checks the files that a configuration names, without starting or changing anything."""

import math
from pathlib import Path

import numpy as np

from teacherd.daemon.base_holdout import load_base_holdout
from teacherd.daemon.config import Config
from teacherd.daemon.endpoints import read_admin_token, read_token
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.evaluation_sets import load_evaluation_sets
from teacherd.daemon.lineage_decoding import build_decoder
from teacherd.daemon.mirror import Mirror
from teacherd.daemon.notifications import check_receivers
from teacherd.daemon.opening import first_classes, load_base, require_classes
from teacherd.daemon.signing import load_signing_key
from teacherd.daemon.state_directory import PUBLIC
from teacherd.models.artifact import ArtifactError, Manifest, load_artifact, version_folder


def validate_files(config: Config) -> None:
    """Check state directory, base model, classes, evaluation sets and decoder together.

    Raises:
        ConfigurationError: Carries every problem found.
    """
    problems: list[Problem] = []
    state = Path(config.process.state_directory)
    if state.exists() and not state.is_dir():
        problems.append(Problem("process.state_directory", f"{state} is a file, not a directory"))
    try:
        manifest = _version_zero(config)
    except ConfigurationError as error:
        raise ConfigurationError([*problems, *error.problems]) from error
    checks = (
        _check_token,
        _check_classes,
        _check_room,
        _check_memory,
        _check_evaluation_sets,
        _check_base_holdout,
        _check_decoder,
        _check_publication,
        _check_notifications,
    )
    for check in checks:
        try:
            check(config, manifest)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)


def _version_zero(config: Config) -> Manifest:
    """Return the base model's manifest; a lineage that has begun does without the base's folder."""
    folder = version_folder(Path(config.process.state_directory) / PUBLIC, 0)
    if Path(config.model.base).is_dir() or not folder.is_dir():
        return load_base(config.model).manifest
    try:
        return load_artifact(folder).manifest
    except ArtifactError as error:
        raise ConfigurationError([Problem("process.state_directory", str(error))]) from error


def _check_token(config: Config, _: Manifest) -> None:
    read_token(config.endpoints)
    read_admin_token(config.endpoints)


def _check_classes(config: Config, manifest: Manifest) -> None:
    require_classes(config.model, manifest)


def _check_room(config: Config, manifest: Manifest) -> None:
    """Hold the most classes that there may be against those that there are from the beginning."""
    num_classes, most = len(manifest.classes), config.classes.max_total
    if config.classes.unknown == "grow" and most <= num_classes:
        rule = (
            f"{most}: the base model has {num_classes} classes already, and none could come; take "
            "more, or classes.unknown: reject"
        )
        raise ConfigurationError([Problem("classes.max_total", rule)])


def _check_memory(config: Config, manifest: Manifest) -> None:
    """See that a memory that is asked for has room for one instance of each class at least."""
    memory, shape = config.learning.memory, manifest.architecture.input_shape
    item = np.dtype(np.float32 if len(shape) == 1 else np.uint8).itemsize
    num_classes, instance_bytes = len(manifest.classes), math.prod(shape) * item
    room = memory.capacity(num_classes=num_classes, instance_bytes=instance_bytes)
    if memory.instances_per_class and room == 0:
        rule = (
            f"{memory.max_bytes}: keeps no instance of {num_classes} classes of {instance_bytes} "
            f"bytes each; take at least {num_classes * instance_bytes}, or instances_per_class 0 "
            "for no memory"
        )
        raise ConfigurationError([Problem("learning.memory.max_bytes", rule)])


def _check_evaluation_sets(config: Config, manifest: Manifest) -> None:
    load_evaluation_sets(
        config.evaluation,
        input_shape=manifest.architecture.input_shape,
        classes=first_classes(manifest),
        may_grow=config.classes.unknown == "grow" or manifest.increments is not None,
    )


def _check_base_holdout(config: Config, manifest: Manifest) -> None:
    load_base_holdout(
        config.gate,
        input_shape=manifest.architecture.input_shape,
        classes=first_classes(manifest),
    )


def _check_decoder(config: Config, manifest: Manifest) -> None:
    shape = manifest.architecture.input_shape
    build_decoder(config.decoding, shape, first_classes(manifest)).close()


def _check_notifications(config: Config, _: Manifest) -> None:
    check_receivers(config.notifications)


def _check_publication(config: Config, _: Manifest) -> None:
    load_signing_key(config.publication.signing_key_file)
    for name, mirror in config.publication.mirrors.items():
        Mirror(name, mirror, Path(config.process.state_directory) / PUBLIC)
