"""The base holdout: what the base model must not unlearn, from a file of the user's."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.evaluation_sets import EvaluationConfig, load_evaluation_sets
from teacherd.daemon.gate import GateConfig
from teacherd.daemon.holdout_split import Holdout
from teacherd.daemon.holdouts import BASE


@dataclass(frozen=True, slots=True)
class BaseHoldout:
    """Instances, and the digest by which the lineage log knows them."""

    holdout: Holdout
    sha256: str


def load_base_holdout(
    config: GateConfig, *, input_shape: tuple[int, ...], classes: Sequence[str]
) -> BaseHoldout | None:
    """Read the configured file, None where there is none, and take evenly of it.

    Raises:
        ConfigurationError: It is missing, or does not fit the network.
    """
    if config.base_holdout is None:
        return None
    try:
        (found,) = load_evaluation_sets(
            EvaluationConfig(sets={"base": str(Path(config.base_holdout))}),
            input_shape=input_shape,
            classes=classes,
        )
    except ConfigurationError as error:
        problems = [Problem("gate.base_holdout", each.message) for each in error.problems]
        raise ConfigurationError(problems) from error
    count = min(config.base_instances, len(found.labels))
    places = np.linspace(0, len(found.labels) - 1, count).round().astype(np.int64)
    holdout = Holdout(BASE, found.inputs[places], found.labels[places])
    return BaseHoldout(holdout, _digest(holdout))


def _digest(holdout: Holdout) -> str:
    digest = hashlib.sha256(f"{holdout.inputs.dtype}{holdout.inputs.shape}".encode())
    digest.update(holdout.inputs.tobytes())
    digest.update(holdout.labels.tobytes())
    return digest.hexdigest()
