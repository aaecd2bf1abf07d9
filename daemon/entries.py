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
    held_out: tuple[int, ...] = ()
    """Offsets of instances that are never trained on: the gate measures with them."""
    deferred: tuple[int, ...] = ()
    """Offsets of instances whose label is no class yet: kept until a later plan has them."""
    last_digest: str | None = None
    """Of the record at `end` - 1 alone, by which a start knows the stream again; None where none
    lies there, and in older logs."""
    topic_id: str | None = None
    """What tells the topic from one that is made under its name later; 0.1.0 wrote none, nor do
    sources that have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deferred:
    """Records of one partition that the plan of an earlier task has deferred."""

    task: int
    """The one whose plan it was; the plan's own, for what it drops at once."""
    topic: str
    partition: int
    offsets: tuple[int, ...]
    held_out: tuple[int, ...] = ()
    """Those of them that are never trained on."""
    digest: str | None = None
    """Of these records, as of a range's, where they are taken in: what is read again later must be
    the same; what is dropped has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A task, decided: what is learned, from which head, how."""

    task: int
    cause: Literal["count", "load", "capacity", "age", "drain", "gap", "drift"]
    """Why it was cut just here."""
    head: int
    """Version that the task starts from."""
    seed: int
    epochs: int
    learning_rate: float
    num_instances: int
    """Instances that are learned, those taken in among them; those held out come on top."""
    ranges: tuple[ClosedRange, ...]
    holdouts: tuple[int, ...] = ()
    """Earlier tasks whose holdouts the gate measures with, besides this task's own."""
    has_open_labels: bool = False
    """Whether its labels were sorted when it was planned: else what is none of version 0's classes
    was rejected when it was decoded."""
    new_classes: tuple[str, ...] = ()
    """What the head's classes grow by, in this order, if the task is accepted."""
    named: tuple[str, ...] = ()
    """Classes beyond version 0's that it learns, new ones first; another head may lack them."""
    taken: tuple[Deferred, ...] = ()
    """What is learned besides: deferred before, and now of a class."""
    dropped: tuple[Deferred, ...] = ()
    """What waits no longer, for want of room or time, and is in the dead letters."""
    kind: Literal["plan"] = "plan"


GateResult = Literal["passed", "undecided", "failed"]
Gated = Literal["ungated"] | GateResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One comparison of a candidate with a version, on the same instances (docs/gate.md)."""

    holdout: str
    """newest, earlier, base, new (classes that only the candidate knows), or `class` and a name."""
    against: Literal["current", "best"]
    num: int
    """Instances."""
    won: int
    """Those that only the candidate gets right."""
    lost: int
    """Those that only the other one does."""
    lower: float
    """Bounds of the difference in accuracy, each one-sided."""
    upper: float
    allowance: float
    """The difference may be as far below 0."""
    result: GateResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrivals:
    """How versions did on a task's instances before anybody learned them."""

    num: int
    wrong: int
    """By the head that the task starts from."""
    watched: int | None = None
    """The served version, while it is on probation."""
    won: int = 0
    """Instances that only the watched version gets right, not the one served before it."""
    lost: int = 0
    """Those that only the one before gets right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What the drift detectors saw of a task, with the head of its plan; no weight needs it."""

    num_instances: int
    errors: str
    """One bit per instance in the order of identities, set where the head was wrong; base64."""
    classes: tuple[int, ...]
    """Instances by class of their label."""
    sketch: tuple[float, ...] = ()
    """Where their embeddings lie, by daemon/input_sketch.py; empty if inputs were not watched."""
    scale: float = 0.0
    """Distance of embeddings that the sketch took as its unit."""


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
    gate: Gated = "ungated"
    """What the gate found; only a candidate that passed, or met no gate, is to be served."""
    checks: tuple[Check, ...] = ()
    """What it found that from, at the point that was taken."""
    point: float = 1.0
    """How far from the head to the consolidated teacher the candidate lies."""
    is_best: bool = False
    """Whether it is the best version so far, which later candidates are compared with."""
    arrivals: Arrivals | None = None
    drift: Literal["none", "suspected", "confirmed"] = "none"
    retired: tuple[int, ...] = ()
    """Tasks whose holdouts a confirmed drift contradicts: they are measured with no more."""
    is_base_retired: bool = False
    """The same of the base holdout."""
    head_returns: bool = False
    """Held once too often: the head is the served version again."""
    is_cut_short: bool = False
    """Held by a command or a failed probation, before it was learned to its end and judged."""
    rolls_back_to: int | None = None
    """Version whose weights are to be served again, because the served one failed its probation."""
    observed: Observed | None = None
    """None where nothing was watched, and for a task that was observed before."""
    alarms: tuple[str, ...] = ()
    """The drift detectors that this task alarmed: error, outer, inputs, labels."""
    kind: Literal["outcome"] = "outcome"


@dataclass(frozen=True, kw_only=True, slots=True)
class Publish:
    """A version becomes current: what is served."""

    version: int
    cause: Literal["gate", "request"] = "gate"
    probation_tasks: int = 0
    """For so many tasks it is compared with the version that was served before it."""
    kind: Literal["publish"] = "publish"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollback:
    """A new version with the weights of an old one becomes head and current."""

    version: int
    to: int
    """Version whose weights it has."""
    sha256: str
    manifest_sha256: str | None = None
    cause: Literal["request", "probation"]
    reason: str = ""
    kind: Literal["rollback"] = "rollback"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """A plan once more, under its own number: the same ranges, so no offset is planned twice.

    After `nonfinite` it is the plan in progress, else one that was set aside: by `request`, or
    because the failed `probation` that kept it from being learned is over.
    """

    task: int
    attempt: int
    """2 for the first retry; the plan itself was attempt 1."""
    head: int
    """Version that this attempt starts from."""
    learning_rate: float
    cause: Literal["nonfinite", "request", "probation"]
    reason: str = ""
    """What the attempt before came to."""
    new_classes: tuple[str, ...] = ()
    """What this attempt makes the head's classes grow by: it may be another head."""
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
    topic_id: str | None = None
    """Of the topic that was made anew: from the end on, offsets are that one's."""
    kind: Literal["skip"] = "skip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restore:
    """The state directory was put back from a backup: what it decided since then never was."""

    epoch: int
    """Above every earlier one. A loader orders versions by (epoch, version), so that it takes those
    to come though it has seen their numbers before."""
    kind: Literal["restore"] = "restore"


Entry = Annotated[
    Open | Config | Runtime | Plan | Outcome | Publish | Rollback | Retry | Skip | Restore,
    Field(discriminator="kind"),
]

ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
"""Reads an entry from JSON, and refuses what is none."""
