"""Where a version comes from: its place in a lineage and why it was accepted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """A version's number, what it was made from, and what was measured."""

    lineage: str
    """Id of the lineage; empty for a base model that has opened none yet."""

    epoch: int = 1
    """Raised when a lineage is restored from a backup, so that (epoch, version) still grows."""

    version: int = 0
    """Number within the lineage; 0 is the base model."""

    parent: int | None = None
    """The version that this one was learned from; None for a base model."""

    tasks: tuple[int, ...] = ()
    """Numbers of the tasks that it contains and its parent does not."""

    verdict: Mapping[str, Any] = field(default_factory=dict)
    """Why it was accepted, as the gate wrote it down."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures of its measurement by name; finite."""

    created_at: str
    """When it was written, ISO 8601 with an offset."""

    def __post_init__(self) -> None:
        check_order(self.epoch, self.version)
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"metrics.{name}: {value}: must be finite; leave it out")
        _check_moment(self.created_at)


def check_order(epoch: int, version: int) -> None:
    """Refuse numbers that no version can have.

    Raises:
        ValueError: The epoch is below 1 or the version below 0.
    """
    if epoch < 1:
        raise ValueError(f"epoch: {epoch}: must be at least 1")
    if version < 0:
        raise ValueError(f"version: {version}: must be at least 0")


def _check_moment(created_at: str) -> None:
    try:
        moment = datetime.fromisoformat(created_at)
    except ValueError as error:
        raise ValueError(f"created_at: {created_at!r}: must be ISO 8601") from error
    if moment.tzinfo is None:
        raise ValueError(f"created_at: {created_at!r}: must carry an offset, as +00:00")
