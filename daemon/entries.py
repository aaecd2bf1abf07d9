"""The kinds of entry in a lineage log: everything that decides weights, each a frozen value."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter


@dataclass(frozen=True, kw_only=True, slots=True)
class Open:
    """A lineage begins, with version 0."""

    lineage: str
    seed: int
    """Every random draw of the lineage is keyed by it."""
    sha256: str
    """Of version 0's weights."""
    classes: tuple[str, ...]
    manifest_sha256: str | None = None
    """Of version 0's manifest; logs of 0.1.0 have none."""
    kind: Literal["open"] = "open"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The resolved settings that decide weights, in force from the next plan."""

    settings: dict[str, Any]
    kind: Literal["config"] = "config"


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """What the same settings need besides to give the same bits."""

    facts: dict[str, str]
    kind: Literal["runtime"] = "runtime"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedRange:
    """The part of one partition that a plan closes."""

    topic: str
    partition: int
    start: int
    end: int
    count: int
    """Number of records in [start, end)."""
    digest: str
    """Of those records: offset, key, headers, value (consumers/record.py)."""
    rejected: tuple[int, ...] = ()
    """Offsets that were no instance and are in the dead letters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A task, decided: what is learned, from which head, how."""

    task: int
    cause: Literal["count", "load", "capacity", "age", "drain", "gap"]
    """Why it was cut just here."""
    head: int
    """Version that the task starts from."""
    seed: int
    epochs: int
    learning_rate: float
    num_instances: int
    ranges: tuple[ClosedRange, ...]
    kind: Literal["plan"] = "plan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a plan.

    `accepted` names the version that is now the head; in every other case the head stays.
    """

    task: int
    result: Literal["accepted", "held", "quarantined", "lost", "empty"]
    reasons: tuple[str, ...] = ()
    version: int | None = None
    sha256: str | None = None
    manifest_sha256: str | None = None
    """Of the version's manifest, which says how its inputs are prepared; 0.1.0 wrote none."""
    should_publish: bool = False
    """Whether the verdict was to serve it: a crash before the publish entry is mended from this."""
    figures: dict[str, float] = field(default_factory=dict)
    kind: Literal["outcome"] = "outcome"


@dataclass(frozen=True, kw_only=True, slots=True)
class Publish:
    """A version becomes current: what is served."""

    version: int
    kind: Literal["publish"] = "publish"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """A plan once more, under its own number: the same ranges, so no offset is planned twice.

    After `nonfinite` it is the plan in progress, after `request` one that was set aside.
    """

    task: int
    attempt: int
    """2 for the first retry; the plan itself was attempt 1."""
    head: int
    """Version that this attempt starts from."""
    learning_rate: float
    cause: Literal["nonfinite", "request"]
    reason: str = ""
    """What the attempt before came to."""
    kind: Literal["retry"] = "retry"


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """A range that will never be learned because its records are gone.

    An end before the start means that the log was cut back, or made anew: from there on it holds
    other records than those that were planned.
    """

    topic: str
    partition: int
    start: int
    end: int
    reason: str
    kind: Literal["skip"] = "skip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restore:
    """The state directory was put back from a backup: what it decided since then never was."""

    epoch: int
    """Above every earlier one. A loader orders versions by (epoch, version), so that it takes those
    to come though it has seen their numbers before."""
    kind: Literal["restore"] = "restore"


Entry = Annotated[
    Open | Config | Runtime | Plan | Outcome | Publish | Retry | Skip | Restore,
    Field(discriminator="kind"),
]

ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
"""Reads an entry from JSON, and refuses what is none."""
