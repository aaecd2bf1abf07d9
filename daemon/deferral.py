"""Sorts a task's labels when it is planned: known, new classes, deferred, dropped.

What it says is in the plan, so that nothing of this is decided twice.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, get_args

import structlog

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.decoding import Decoder
from teacherd.consumers.instance import Rejected
from teacherd.consumers.range_digest import RangeDigest
from teacherd.consumers.record import Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.classes_config import ClassesConfig
from teacherd.daemon.deferred_offsets import DeferredIdentity, grouped
from teacherd.daemon.deferred_store import DeferredRecord, DeferredStore, named_records
from teacherd.daemon.entries import Deferred
from teacherd.daemon.holdout_split import is_in_holdout
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.taking_in import build_part, digesting

STAGE = "planning"
Reason = Literal["deferred_overflow", "deferred_too_long", "label_not_allowed", "unknown_label"]
DROP_REASONS: tuple[Reason, ...] = get_args(Reason)
_SHOWN_CHARACTERS = 80
_MESSAGES: Mapping[Reason, str] = {
    "deferred_overflow": "deferred records took more than classes.max_deferred_bytes",
    "deferred_too_long": "it did not become a class within classes.max_deferred_tasks tasks",
    "label_not_allowed": "it is none of the classes, and classes.allow has no pattern for it",
    "unknown_label": "it is none of the classes, and classes.unknown is reject",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sorted:
    """What a plan says of its labels, and what must be durable before it does."""

    new_classes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    """Classes beyond version 0's that are learned: new ones first, in their order."""
    deferred: Mapping[Partition, tuple[int, ...]] = field(default_factory=dict)
    """Offsets of the task's own records that are not learned now."""
    taken: tuple[Deferred, ...] = ()
    dropped: tuple[Deferred, ...] = ()
    parts: tuple[BufferedTask, ...] = ()
    """The instances that are taken in, a part for each task that deferred them."""
    records: tuple[DeferredRecord, ...] = ()
    """To be kept: those deferred, less what is dropped at once."""
    letters: tuple[DeadLetter, ...] = ()
    """Of what is dropped."""


@dataclass(slots=True)
class _Waiting:
    """What has no class yet: from before, and of this task."""

    before: dict[DeferredIdentity, DeferredRecord]
    own: dict[DeferredIdentity, DeferredRecord]

    def named(self, name: str) -> Iterator[DeferredRecord]:
        """Yield all records of one label."""
        for each in (*self.before.values(), *self.own.values()):
            if each.name == name:
                yield each


class Deferral:
    """Decides about labels that are none of the head's classes.

    Args:
        store: What is deferred.
        build_decoder: For the settings in force.
        now: Seconds since the epoch, for dead letters.
    """

    def __init__(
        self,
        store: DeferredStore,
        *,
        lineage: Lineage,
        build_decoder: Callable[[], Decoder],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._build_decoder = build_decoder
        self._now = now

    def sort(self, task: BufferedTask, config: ClassesConfig, *, holdout_share: float) -> Sorted:
        """Sort the labels of the next task.

        Args:
            task: As it was cut.
            config: In force for it.
            holdout_share: What is held out, a new class must have more than.

        Raises:
            StateError: What is deferred is damaged.
        """
        if not task.names and not len(self._lineage.deferred):
            return Sorted()
        return _Sorting(self, task, config, holdout_share).run()

    @property
    def store(self) -> DeferredStore:
        """What is deferred."""
        return self._store

    @property
    def lineage(self) -> Lineage:
        """Before the plan."""
        return self._lineage

    def open_decoder(self) -> Decoder:
        """Return a decoder for the settings in force; the caller closes it."""
        return self._build_decoder()

    def letter(self, batch: RecordBatch, reason: str, message: str) -> DeadLetter:
        """Return the dead letter of a record that is not learned after all."""
        return DeadLetter(
            origin=batch.partition,
            offset=batch.offsets[0],
            key=batch.keys[0],
            headers=batch.headers[0],
            value=batch.values[0],
            stage=STAGE,
            reason=reason,
            message=message,
            timestamp_ms=int(self._now() * 1000),
        )


class _Sorting:
    """One task's."""

    def __init__(
        self, deferral: Deferral, task: BufferedTask, config: ClassesConfig, holdout_share: float
    ) -> None:
        self._deferral = deferral
        self._store = deferral.store
        self._lineage = deferral.lineage
        self._number = deferral.lineage.num_tasks + 1
        self._task = task
        self._config = config
        self._share = holdout_share
        self._letters: list[DeadLetter] = []
        self._dropped: list[DeferredIdentity] = []

    def run(self) -> Sorted:
        head = self._lineage.classes
        unknown = set(self._task.names) - set(head)
        own = {
            each.identity: each for each in named_records(self._number, self._task, among=unknown)
        }
        waiting = _Waiting(dict(self._records_before()), own)
        new = self._choose_new(waiting, len(head))
        while self._drop_what_is_none(waiting, {*head, *new}):
            # It had been counted: what was to be a class may have too few now, or none.
            new = self._choose_new(waiting, len(head))
        known = {*head, *new}
        taken, parts = self._take_in(waiting, known)
        for identity in [each for each, record in own.items() if record.name in known]:
            del own[identity]
        deferred = _by_partition(own)
        self._drop_what_must_go(waiting)
        first = set(self._lineage.first_classes)
        learned = {name for part in (self._task, *parts) for name in part.names} & known
        return Sorted(
            new_classes=new,
            named=(*new, *sorted(learned - first - set(new))),
            deferred=deferred,
            taken=taken,
            dropped=grouped(self._dropped),
            parts=parts,
            records=tuple(own.values()),
            letters=tuple(self._letters),
        )

    def _records_before(self) -> Iterator[tuple[DeferredIdentity, DeferredRecord]]:
        """Yield what waits; what is lost waits no longer, and nobody has its payload."""
        for identity in self._lineage.deferred:
            record = self._store.records.get(identity)
            if record is not None:
                yield identity, record
            else:
                self._dropped.append(identity)
                structlog.get_logger().error(
                    "deferred_record_lost",
                    task=identity.task,
                    topic=identity.partition.topic,
                    partition=identity.partition.number,
                    offset=identity.offset,
                )

    def _choose_new(self, waiting: _Waiting, num_classes: int) -> tuple[str, ...]:
        """Return what is to be a class, the most frequent first."""
        config = self._config
        if config.unknown == "reject":
            return ()
        counts = Counter(each.name for each in (*waiting.before.values(), *waiting.own.values()))
        frequent = [
            name
            for name, count in counts.items()
            if count >= config.min_instances and config.allows(name)
        ]
        learnable = [name for name in frequent if self._is_learnable(waiting, name)]
        learnable.sort(key=lambda name: (-counts[name], name))
        room = max(config.max_total - num_classes, 0)
        return tuple(learnable[: min(config.max_new_per_task, room)])

    def _is_learnable(self, waiting: _Waiting, name: str) -> bool:
        """Tell whether something of a label is left when the holdout has had its share."""
        return any(
            not is_in_holdout(each.id, *each.identity[1:], share=self._share)
            for each in waiting.named(name)
        )

    def _drop_what_is_none(self, waiting: _Waiting, known: set[str]) -> bool:
        """Drop what would be taken in and decodes no longer; tell whether there was anything."""
        wanted = [each for each, record in waiting.before.items() if record.name in known]
        if not wanted:
            return False
        num_before = len(waiting.before)
        with closing(self._deferral.open_decoder()) as decoder:
            for identity, batch in zip(wanted, self._store.batches(wanted), strict=True):
                (result,) = decoder.decode_batch(batch)
                if isinstance(result, Rejected):
                    letter = self._deferral.letter(batch, result.reason, result.message)
                    self._letters.append(letter)
                    self._dropped.append(identity)
                    del waiting.before[identity]
        return len(waiting.before) < num_before

    def _take_in(
        self, waiting: _Waiting, known: set[str]
    ) -> tuple[tuple[Deferred, ...], tuple[BufferedTask, ...]]:
        """Take in what waits and has a class now; return how the plan names it, and a part each."""
        taken = [each for each, record in waiting.before.items() if record.name in known]
        if not taken:
            return (), ()
        parts, digests = [], dict[tuple[int, Partition], str]()
        with closing(self._deferral.open_decoder()) as decoder:
            for task, group in groupby(taken, key=lambda each: each.task):
                its, found = list(group), dict[Partition, RangeDigest]()
                batches = digesting(self._store.batches(its), found)
                parts.append(build_part(batches, decoder, num_records=len(its)))
                digests |= {(task, each): digest.hexdigest() for each, digest in found.items()}
        for each in taken:
            del waiting.before[each]
        held_out = frozenset(
            each
            for each in taken
            if is_in_holdout(self._store.records[each].id, *each[1:], share=self._share)
        )
        return grouped(taken, held_out, digests), tuple(parts)

    def _drop_what_must_go(self, waiting: _Waiting) -> None:
        """Drop what may be no class or waits too long, then the oldest until the rest has room."""
        config = self._config
        if config.unknown == "reject":
            self._drop(waiting, [*waiting.before, *waiting.own], "unknown_label")
            return
        every = {**waiting.before, **waiting.own}
        never = [each for each, record in every.items() if not config.allows(record.name)]
        self._drop(waiting, never, "label_not_allowed")
        oldest = self._number - config.max_deferred_tasks
        late = [each for each in waiting.before if each.task < oldest]
        self._drop(waiting, late, "deferred_too_long")
        every = {**waiting.before, **waiting.own}
        excess = sum(each.num_bytes for each in every.values()) - config.max_deferred_bytes
        overflow = []
        for identity, record in sorted(every.items()):
            if excess <= 0:
                break
            overflow.append(identity)
            excess -= record.num_bytes
        self._drop(waiting, overflow, "deferred_overflow")

    def _drop(
        self, waiting: _Waiting, identities: Sequence[DeferredIdentity], reason: Reason
    ) -> None:
        own = {
            (batch.partition, offset): batch.part(number, number + 1)
            for batch in (self._task.named_records if identities else ())
            for number, offset in enumerate(batch.offsets)
        }
        for identity in identities:
            if identity in waiting.own:
                record = waiting.own.pop(identity)
                batch = own[identity.partition, identity.offset]
            else:
                record = waiting.before.pop(identity)
                (batch,) = self._store.batches([identity])
            shown = ascii(record.name)[:_SHOWN_CHARACTERS]
            message = f"the label {shown}: {_MESSAGES[reason]}"
            self._letters.append(self._deferral.letter(batch, reason, message))
            self._dropped.append(identity)


def _by_partition(
    records: Mapping[DeferredIdentity, DeferredRecord],
) -> dict[Partition, tuple[int, ...]]:
    offsets: dict[Partition, list[int]] = {}
    for identity in sorted(records):
        offsets.setdefault(identity.partition, []).append(identity.offset)
    return {partition: tuple(each) for partition, each in offsets.items()}
