"""Evaluation sets: labelled files that the teacher is measured on, and never trained on."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.holdout_split import places_in


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What the teacher is measured on."""

    sets: dict[str, str] = field(default_factory=dict)
    """Name to .npz file: `inputs` uint8 [N,C,H,W] or float32 [N,F], `labels` int [N], and perhaps
    `classes`, the names that the labels are places in; else they are places in version 0's."""
    batch_size: int = 256
    """Instances per forward pass; larger is faster until the device's memory is full."""
    worst_classes: int = 5
    """Classes of each set whose accuracy is exported, the worst ones; 0 exports none."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: {self.batch_size}: must be at least 1; take 256")
        if self.worst_classes < 0:
            raise ValueError(f"worst_classes: {self.worst_classes}: must not be negative; take 5")


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Inputs and labels under a name."""

    name: str
    inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...] = ()
    """What the labels are places in; empty where that is version 0's, with which all begin."""


def load_evaluation_sets(
    config: EvaluationConfig,
    *,
    input_shape: tuple[int, ...],
    classes: Sequence[str],
    may_grow: bool = False,
) -> list[EvaluationSet]:
    """Read every set and check that it fits the network.

    Args:
        config: Names the files.
        input_shape: The network's.
        classes: Version 0's.
        may_grow: Whether a set may name others, which versions to come may know.

    Raises:
        ConfigurationError: Carries one problem for each set that does not.
    """
    sets, problems = [], []
    for name, path in config.sets.items():
        try:
            sets.append(_load(name, Path(path), input_shape, classes, may_grow=may_grow))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.append(Problem(f"evaluation.sets.{name}", f"{path}: {reason}"))
    if problems:
        raise ConfigurationError(problems)
    return sets


def _load(
    name: str,
    path: Path,
    input_shape: tuple[int, ...],
    classes: Sequence[str],
    *,
    may_grow: bool,
) -> EvaluationSet:
    inputs, labels, names = _read(path)
    wanted = np.dtype(np.float32 if len(input_shape) == 1 else np.uint8)
    if inputs.shape[1:] != input_shape or inputs.dtype != wanted:
        raise ValueError(
            f"inputs are {inputs.dtype} {list(inputs.shape)}; "
            f"the network takes {wanted} [N, {', '.join(map(str, input_shape))}]"
        )
    if labels.shape != (len(inputs),) or len(labels) == 0:
        raise ValueError(
            f"labels are {list(labels.shape)} for {len(inputs)} inputs; "
            "one for each input is wanted, and at least one"
        )
    if not np.isfinite(inputs).all():
        raise ValueError("inputs hold NaN or infinite values; fill or drop those instances")
    num_classes = len(names or classes)
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or not np.isin(labels, np.arange(num_classes)).all()
    ):
        raise ValueError(f"labels must be integers from 0 to {num_classes - 1}")
    labels = labels.astype(np.int64)
    others = sorted(set(names) - set(classes))
    if not others:
        return EvaluationSet(name, inputs, places_in(classes, labels, names))
    if not may_grow:
        raise ValueError(
            f"classes: names {others[:3]}, which the model does not have; leave their instances "
            "out, or set classes.unknown: grow"
        )
    return EvaluationSet(name, inputs, labels, names)


def _read(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any], tuple[str, ...]]:
    with path.open("rb") as file:
        # Asked first: of other files numpy says that they may be pickles.
        if not zipfile.is_zipfile(file):
            raise ValueError("is no .npz archive; write it with numpy.savez")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in ("inputs", "labels") if name not in arrays]
        if missing:
            raise ValueError(f"has the arrays {arrays.files}; {missing} must be among them")
        names = arrays["classes"].tolist() if "classes" in arrays else []
        if not isinstance(names, list) or len(set(names)) != len(names):
            raise ValueError("classes must be a list of different names")
        return arrays["inputs"], arrays["labels"], tuple(map(str, names))
