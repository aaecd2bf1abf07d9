"""Evaluation sets: labelled files that the teacher is measured on, and never trained on."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from teacherd.daemon.errors import ConfigurationError, Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What the teacher is measured on."""

    sets: dict[str, str] = field(default_factory=dict)
    """Name to .npz file: `inputs` uint8 [N,C,H,W] or float32 [N,F], and `labels` int [N]."""
    batch_size: int = 256
    """Instances per forward pass; larger is faster until the device's memory is full."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size: {self.batch_size} is less than 1; take 256")


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Inputs and labels under a name."""

    name: str
    inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def load_evaluation_sets(
    config: EvaluationConfig, *, input_shape: tuple[int, ...], num_classes: int
) -> list[EvaluationSet]:
    """Read every set and check that it fits the network.

    Raises:
        ConfigurationError: Carries one problem for each set that does not.
    """
    sets, problems = [], []
    for name, path in config.sets.items():
        try:
            sets.append(_load(name, Path(path), input_shape, num_classes))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            problems.append(Problem(f"evaluation.sets.{name}", f"{path}: {error}"))
    if problems:
        raise ConfigurationError(problems)
    return sets


def _load(name: str, path: Path, input_shape: tuple[int, ...], num_classes: int) -> EvaluationSet:
    with np.load(path, allow_pickle=False) as arrays:
        inputs, labels = arrays["inputs"], arrays["labels"]
    wanted = np.dtype(np.float32 if len(input_shape) == 1 else np.uint8)
    if inputs.shape[1:] != input_shape or inputs.dtype != wanted:
        raise ValueError(
            f"inputs are {inputs.dtype} {list(inputs.shape)}; "
            f"the network takes {wanted} [N, {', '.join(map(str, input_shape))}]"
        )
    if labels.shape != (len(inputs),) or len(labels) == 0:
        raise ValueError(f"labels have shape {labels.shape} for {len(inputs)} inputs")
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or not np.isin(labels, np.arange(num_classes)).all()
    ):
        raise ValueError(f"labels must be integers from 0 to {num_classes - 1}")
    return EvaluationSet(name, inputs, labels.astype(np.int64))
