"""Tells people of classes: those that came later, labels that wait to be one, the memory."""

from collections import Counter
from typing import Any

import structlog

from teacherd.daemon.deferral import DROP_REASONS
from teacherd.daemon.deferred_store import DeferredStore
from teacherd.daemon.entries import Outcome, Plan
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.metrics import Metrics
from teacherd.models.memory import Memory

_SHOWN_LABELS = 10


class ClassesObservation:
    """Metrics, log events and a section of the status; bounded, whatever labels there are.

    Args:
        store: Has what waits.
        memory: Has what is learned again; only looked at when told of an event.
    """

    def __init__(self, metrics: Metrics, store: DeferredStore, memory: Memory) -> None:
        self._metrics = metrics
        self._store = store
        self._memory = memory
        self._num_kept = 0
        self._log = structlog.get_logger()
        for reason in DROP_REASONS:
            metrics.dead_letters.labels(reason)

    def task_planned(self, plan: Plan) -> None:
        """A plan is durable."""
        num_deferred = sum(len(closed.deferred) for closed in plan.ranges)
        self._metrics.records_deferred.inc(num_deferred)
        num_taken = sum(len(each.offsets) for each in plan.taken)
        num_dropped = sum(len(each.offsets) for each in plan.dropped)
        if num_deferred or num_taken or num_dropped or plan.new_classes:
            self._log.info(
                "labels_sorted",
                task=plan.task,
                new_classes=list(plan.new_classes),
                deferred=num_deferred,
                taken=num_taken,
                dropped=num_dropped,
            )

    def task_closed(self, plan: Plan, outcome: Outcome) -> None:
        """An outcome is durable."""
        if outcome.result == "accepted" and plan.new_classes:
            self._metrics.classes_added.inc(len(plan.new_classes))
            self._log.warning(
                "classes_added",
                task=plan.task,
                version=outcome.version,
                classes=list(plan.new_classes),
            )

    def status(self, lineage: Lineage) -> dict[str, Any]:
        """Return the section of the status; the metrics of the same values follow it."""
        waiting = [
            record
            for identity, record in self._store.records.items()
            if identity in lineage.deferred
        ]
        labels = Counter(record.name for record in waiting)
        num_bytes = sum(record.num_bytes for record in waiting)
        self._metrics.deferred_records.set(len(waiting))
        self._metrics.deferred_bytes.set(num_bytes)
        self._metrics.deferred_labels.set(len(labels))
        first = len(lineage.first_classes)
        served = lineage.versions[lineage.current or 0].classes
        return {
            "first": first,
            "served": len(served),
            "head": len(lineage.classes),
            "later": list(served[first:]),
            "deferred_records": len(waiting),
            "deferred_bytes": num_bytes,
            "deferred_labels": len(labels),
            "most_frequent": dict(labels.most_common(_SHOWN_LABELS)),
            **self._rehearsed(first),
        }

    def _rehearsed(self, num_first: int) -> dict[str, Any]:
        """Return what of the memory is shown, of version 0's classes and of later ones."""
        kept = self._memory.num_of_class
        if self._num_kept and not sum(kept):
            self._log.warning("rehearsal_memory_emptied", instances=self._num_kept)
        self._num_kept = sum(kept)
        groups = {"first": sum(kept[:num_first]), "later": sum(kept[num_first:])}
        for group, num_instances in groups.items():
            self._metrics.memory_instances.labels(group).set(num_instances)
        self._metrics.memory_bytes.set(self._memory.num_bytes)
        return {"memory_instances": groups, "memory_bytes": self._memory.num_bytes}
