"""What the lineage log says: head, current, places, versions, the plan that is not finished.

A fold over the entries, the same while appending and while reading them back, so that no second
truth exists. It refuses an entry that does not follow from those before it.
"""

from dataclasses import dataclass, replace
from typing import Literal

from teacherd.consumers.record import Partition
from teacherd.daemon.deferred_offsets import DeferredOffsets
from teacherd.daemon.drift_history import DriftHistory
from teacherd.daemon.entries import (
    ClosedRange,
    Config,
    Entry,
    Open,
    Outcome,
    Plan,
    Publish,
    Restore,
    Retry,
    Rollback,
    Runtime,
    Skip,
)
from teacherd.daemon.standing import Standing
from teacherd.daemon.task_matrix import TaskMatrix


class LineageError(Exception):
    """An entry contradicts the log: ours to have prevented, so never caught to go on."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """An accepted version, as the log names it."""

    version: int
    sha256: str
    parent: int | None
    task: int | None
    """The task it learned; None for version 0, and for one that a rollback made of its parent."""
    manifest_sha256: str | None = None
    """None where the log is too old to say."""
    newest_event_ms: int = 0
    """Event time of the newest instance of its task, or of those before if that was a later one."""
    classes: tuple[str, ...] = ()
    """Names of its logits, in their order."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A task that was closed without a version, and could be tried again."""

    plan: Plan
    """As it was last tried."""
    result: Literal["held", "quarantined", "lost"]
    attempt: int


class Lineage:
    """The state that follows from the entries applied so far.

    head: what the next task starts from. current: what is served, None before the first publish
    entry. unfinished: the plan in progress, with head and learning rate of its `attempt`.
    unpublished: accepted and to be served, but a crash came before its publish entry.
    due_rollback: the version to be served again, but a crash came before its rollback entry.
    due_retry: the task that a failed probation put off, until it is begun again, or the next is.
    standing: what the gate remembers.
    set_aside: by number, what a retry entry may take up again, as many as the settings keep.
    epoch: orders the versions to come after those that a restore has taken back.
    drift: what the detectors go by.
    matrix: how versions do on what earlier tasks held out.
    topic_ids: of which topic each place is, where the source tells topics of one name apart.
    last_digests: of the record right before each place, where a plan has it.
    deferred: records whose label is no class yet.
    has_grown: whether any plan has brought a class, or deferred a record.
    """

    def __init__(self) -> None:
        self.opening: Open | None = None
        self.settings: Config | None = None
        self.runtime: Runtime | None = None
        self.epoch = 1
        self.head = 0
        self.current: int | None = None
        self.versions: dict[int, VersionRecord] = {}
        self.places: dict[Partition, int] = {}
        self.topic_ids: dict[Partition, str] = {}
        self.last_digests: dict[Partition, str] = {}
        self.unfinished: Plan | None = None
        self.attempt = 1
        self.set_aside: dict[int, SetAside] = {}
        self.num_tasks = 0
        self.outcomes: dict[str, int] = {}
        self.num_learned = 0
        self.unpublished: int | None = None
        self.due_rollback: int | None = None
        self.due_retry: int | None = None
        self.standing = Standing()
        self.drift = DriftHistory()
        self.matrix = TaskMatrix()
        self.deferred = DeferredOffsets()
        self.has_grown = False

    @property
    def id(self) -> str:
        """The lineage's id."""
        if self.opening is None:
            raise LineageError("the lineage is not open")
        return self.opening.lineage

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the next task starts with: the head's."""
        return self.versions[self.head].classes

    @property
    def first_classes(self) -> tuple[str, ...]:
        """Version 0's, the only ones that an index names: later ones may change their place."""
        return self.versions[0].classes

    @property
    def next_version(self) -> int:
        """Number of the version that is accepted next."""
        return len(self.versions)

    @property
    def pinned(self) -> set[int]:
        """Versions that are never removed, because something goes on from them."""
        wanted = (self.current, self.standing.predecessor, self.standing.best)
        return {0, self.head} | {version for version in wanted if version is not None}

    def apply(self, entry: Entry) -> None:
        """Take one more entry into account.

        Raises:
            LineageError: It does not follow from those before it; nothing has changed.
        """
        if (self.opening is None) != isinstance(entry, Open):
            raise LineageError(f"{entry.kind}: a lineage begins with one open entry")
        match entry:
            case Open():
                self.opening = entry
                self.versions[0] = VersionRecord(
                    0, entry.sha256, None, None, entry.manifest_sha256, classes=entry.classes
                )
            case Config():
                self.standing.configure(self.settings, entry)
                self.settings = entry
            case Runtime():
                self.runtime = entry
            case Restore():
                self._require(entry.epoch > self.epoch, f"epoch {entry.epoch} is not a new one")
                self.epoch = entry.epoch
            case Plan() | Outcome() | Publish() | Rollback() | Retry() | Skip():
                self._apply_decision(entry)

    def _apply_decision(self, entry: Plan | Outcome | Publish | Rollback | Retry | Skip) -> None:
        match entry:
            case Plan():
                self._apply_plan(entry)
            case Outcome():
                self._apply_outcome(entry)
            case Publish():
                self._apply_publish(entry)
            case Rollback():
                self._apply_rollback(entry)
            case Retry():
                self._apply_retry(entry)
            case Skip():
                self._apply_skip(entry)

    def _apply_plan(self, plan: Plan) -> None:
        self._require(self.unfinished is None, f"plan {plan.task} before the last one's outcome")
        self._require(plan.task == self.num_tasks + 1, f"plan {plan.task} is not the next task")
        self._require(plan.head == self.head, f"plan {plan.task} starts from {plan.head}, no head")
        for closed in plan.ranges:
            self._require_contiguous(closed)
        unknown = set(plan.holdouts) - set(self.standing.holdouts)
        self._require(not unknown, f"plan {plan.task} names the holdouts {sorted(unknown)}")
        self._require_new(plan)
        contradiction = self.deferred.contradiction(plan)
        self._require(contradiction is None, contradiction or "")
        for closed in plan.ranges:
            self._move(closed)
        self.deferred.apply(plan)
        self.has_grown |= bool(plan.new_classes) or any(each.deferred for each in plan.ranges)
        self.unfinished, self.attempt = plan, 1
        self.due_retry = None
        self.num_tasks = plan.task
        self.standing.plan(plan)

    def _apply_outcome(self, outcome: Outcome) -> None:
        plan = self.unfinished
        if plan is None or plan.task != outcome.task:
            raise LineageError(f"outcome of task {outcome.task}, which has no open plan")
        if outcome.result == "accepted":
            self._require(outcome.version == self.next_version, "accepted version is not the next")
            if outcome.version is None or outcome.sha256 is None:
                raise LineageError("an accepted outcome names version and sha256")
            self.versions[outcome.version] = VersionRecord(
                outcome.version,
                outcome.sha256,
                self.head,
                plan.task,
                outcome.manifest_sha256,
                self._newest_event_ms(outcome),
                self.classes + plan.new_classes if plan.new_classes else self.classes,
            )
            self.head = outcome.version
            self.unpublished = outcome.version if outcome.should_publish else None
            self.num_learned += plan.num_instances
        if outcome.result in {"held", "quarantined", "lost"}:
            self._set_aside(SetAside(plan, outcome.result, self.attempt))
        if outcome.head_returns and self.current is not None:
            self.head = self.current
        self.due_rollback = outcome.rolls_back_to
        if outcome.rolls_back_to is not None:
            self.due_retry = plan.task
        self.outcomes[outcome.result] = self.outcomes.get(outcome.result, 0) + 1
        self.standing.close(outcome, is_newest=plan.task == self.num_tasks)
        self.unfinished = None
        self.drift.apply(outcome)
        self.matrix.apply(outcome)

    def _newest_event_ms(self, outcome: Outcome) -> int:
        newest = int(outcome.figures.get("newest_event_ms", 0))
        # What is tried again is older than what was learned meanwhile. Else a task speaks for
        # itself: a time that lies in the future by mistake is that of one task only.
        is_again = outcome.task != self.num_tasks
        return max(newest, self.versions[self.head].newest_event_ms) if is_again else newest

    def _set_aside(self, aside: SetAside) -> None:
        self.set_aside[aside.plan.task] = aside
        bound = (self.settings.settings.get("set_aside") or {}) if self.settings else {}
        while len(self.set_aside) > bound.get("keep_tasks", len(self.set_aside)):
            oldest = next(iter(self.set_aside))
            del self.set_aside[oldest]
            self.due_retry = None if oldest == self.due_retry else self.due_retry

    def _apply_publish(self, publish: Publish) -> None:
        version = publish.version
        self._require(version in self.versions, f"publish of {version}, which there is not")
        # Loaders take greater numbers only.
        self._require(version >= (self.current or 0), f"publish of {version} after {self.current}")
        self.current, self.unpublished = version, None
        self.standing.publish(publish)

    def _apply_rollback(self, rollback: Rollback) -> None:
        name = f"rollback to {rollback.to}"
        self._require(self.unfinished is None, f"{name} before the last plan's outcome")
        self._require(rollback.to in self.versions, f"{name}, which there is not")
        self._require(rollback.version == self.next_version, f"{name} does not make the next one")
        self.versions[rollback.version] = VersionRecord(
            rollback.version,
            rollback.sha256,
            rollback.to,
            None,
            rollback.manifest_sha256,
            self.versions[rollback.to].newest_event_ms,
            self.versions[rollback.to].classes,
        )
        self.head = self.current = rollback.version
        self.unpublished = self.due_rollback = None
        self.standing.roll_back(rollback)

    def _apply_retry(self, retry: Retry) -> None:
        name = f"retry of task {retry.task}"
        if retry.cause == "nonfinite":
            plan, attempt = self.unfinished, self.attempt
            if plan is None or plan.task != retry.task:
                raise LineageError(f"{name}, which is not in progress")
        else:
            self._require(self.unfinished is None, f"{name} before the last one's outcome")
            aside = self.set_aside.get(retry.task)
            if aside is None:
                raise LineageError(f"{name}, which was not set aside")
            plan, attempt = aside.plan, aside.attempt
        self._require(retry.attempt == attempt + 1, f"{name} is not attempt {attempt + 1}")
        self._require(retry.head == self.head, f"{name} starts from {retry.head}, no head")
        is_due = self.due_retry == retry.task
        self._require(is_due or retry.cause != "probation", f"{name}, which is not due")
        self._require_new(retry)
        if retry.cause != "nonfinite":
            self.outcomes[self.set_aside.pop(retry.task).result] -= 1
        self.due_retry = None if is_due else self.due_retry
        self.unfinished = replace(
            plan,
            head=retry.head,
            learning_rate=retry.learning_rate,
            new_classes=retry.new_classes,
        )
        self.has_grown |= bool(retry.new_classes)
        self.attempt = retry.attempt

    def _apply_skip(self, skip: Skip) -> None:
        partition = _partition(skip)
        place = self.places.get(partition)
        self._require(place in (None, skip.start), f"skip of {partition} not at its place {place}")
        is_empty = skip.start == skip.end and skip.topic_id is None
        self._require(not is_empty, f"skip of {partition} is empty")
        self._move(skip)

    def _move(self, passed: ClosedRange | Skip) -> None:
        partition = _partition(passed)
        self.places[partition] = passed.end
        self.last_digests.pop(partition, None)
        if isinstance(passed, ClosedRange) and passed.last_digest is not None:
            self.last_digests[partition] = passed.last_digest
        if passed.topic_id is not None:
            self.topic_ids[partition] = passed.topic_id

    def _require_contiguous(self, closed: ClosedRange) -> None:
        partition = _partition(closed)
        place = self.places.get(partition)
        self._require(
            place in (None, closed.start),
            f"range of {partition} starts at {closed.start}, its place is {place}",
        )
        self._require(closed.start <= closed.end, f"range of {partition} ends before it starts")

    def _require_new(self, entry: Plan | Retry) -> None:
        new = entry.new_classes
        is_new = len(set(new)) == len(new) and not set(new) & set(self.classes)
        self._require(is_new, f"{entry.kind} of task {entry.task} brings the classes {new} again")

    def _require(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 (reads as a sentence)
        if not holds:
            raise LineageError(otherwise)


def _partition(place: ClosedRange | Skip) -> Partition:
    return Partition(place.topic, place.partition)
