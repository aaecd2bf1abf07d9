"""Gets a cut task ready to be planned: its labels sorted, what is dropped or deferred durable.

Dead letters go where the intake thread keeps them, which may be away for a while, so that the
learning thread asks, and asks again.
"""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import structlog

from teacherd.consumers.buffered_task import BufferedTask
from teacherd.consumers.dead_letters import DeadLetter
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deferral import Deferral, Sorted
from teacherd.daemon.deferred_store import DeferredStore
from teacherd.daemon.lineage import Lineage

KeepLetters = Callable[[Sequence[DeadLetter]], Future[None]]


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A task that may be planned."""

    task: BufferedTask
    """With what it takes in."""
    sorted: Sorted
    age_seconds: float


@dataclass(frozen=True, slots=True)
class _InProgress:
    ready: ReadyTask
    kept: Future[None]
    """Answered once the dead letters are durable."""


class Deferring:
    """Of the learning thread, one task at a time.

    Args:
        store: Where deferred records go.
        keep_letters: Has dead letters kept, by their own thread.
    """

    def __init__(self, deferral: Deferral, store: DeferredStore, keep_letters: KeepLetters) -> None:
        self._deferral = deferral
        self._store = store
        self._keep_letters = keep_letters
        self._running: _InProgress | None = None

    @property
    def is_running(self) -> bool:
        """Whether a task is being got ready."""
        return self._running is not None

    @property
    def store(self) -> DeferredStore:
        """Where deferred records are."""
        return self._store

    def begin(self, task: BufferedTask, settings: DecidingConfig, *, age_seconds: float) -> None:
        """Sort a task's labels.

        Args:
            task: As it was cut.
            settings: In force for it.
            age_seconds: For how long its first record has waited.

        Raises:
            StateError: What is deferred is damaged.
        """
        found = self._deferral.sort(
            task, settings.classes, holdout_share=settings.gate.holdout_share
        )
        ready = ReadyTask(replace(task, taken=found.parts), found, age_seconds)
        kept: Future[None] = Future()
        if found.letters:
            kept = self._keep_letters(found.letters)
            structlog.get_logger().warning("deferred_dropped", records=len(found.letters))
        else:
            kept.set_result(None)
        self._running = _InProgress(ready, kept)

    def poll(self, timeout_seconds: float) -> ReadyTask | None:
        """Return the task once all that its plan relies on is durable, and None until then.

        Raises:
            StateError: The disk refused.
        """
        running = self._running
        if running is None:
            return None
        with contextlib.suppress(TimeoutError):
            running.kept.result(timeout=timeout_seconds)
            self._running = None
            self._store.put(self._deferral.lineage.num_tasks + 1, running.ready.sorted.records)
            return running.ready
        return None

    def mend(self, lineage: Lineage) -> None:
        """Let go of records that are not deferred any more.

        Raises:
            StateError: The disk refused.
        """
        self._store.keep(lineage)
