"""What changes a lineage's course from outside a task: promote, rollback, retry, drain, probation.

Of the learning thread: called between two steps.
"""

import os
from collections.abc import Callable, Mapping
from typing import Literal

from teacherd.daemon.checkpointing import Checkpointing
from teacherd.daemon.commands import Answer, Verb
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import UsageError
from teacherd.daemon.journal import Journal
from teacherd.daemon.observation import Observation
from teacherd.daemon.publication import VersionStore
from teacherd.daemon.publisher import Publisher
from teacherd.daemon.retrying import Retrying


class Interventions:
    """Carries commands out, in the order of events that a crash may cut anywhere.

    Args:
        close_running: Closes a task in progress as held.
        release: Tells the source anew what is still needed.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        core: DecidingCore,
        publisher: Publisher,
        versions: VersionStore,
        checkpointing: Checkpointing,
        observation: Observation,
        retrying: Retrying,
        draining: Draining,
        close_running: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._core = core
        self._publisher = publisher
        self._versions = versions
        self._checkpointing = checkpointing
        self._observation = observation
        self._retrying = retrying
        self._draining = draining
        self._close_running = close_running
        self._release = release

    @property
    def handlers(self) -> Mapping[Verb, Callable[[int | None], Answer]]:
        """What carries out each command."""
        return {
            "promote": self.promote,
            "rollback": self.roll_back,
            "retry": self.retry,
            "drain": self.drain,
        }

    def promote(self, version: int | None) -> Answer:
        """Serve a version that was accepted and not published."""
        if version is None:
            raise UsageError("promote needs the number of a version")
        probation = self._core.settings.gate.probation_tasks
        manifest = self._publisher.promote(version, probation_tasks=probation)
        self._observation.published(manifest, self._journal.lineage)
        self._observation.teacher_measured(self._core.measure(version))
        self._observation.standing(self._journal.lineage)
        return {"version": version}

    def roll_back(self, to: int | None) -> Answer:
        """Serve an old version's weights again, and go on from there."""
        target = self._publisher.choose_target(to)
        self._close_running()
        version = self.take_back(target, cause="request", reason="asked for")
        return {"version": version, "to": target}

    def take_back(self, to: int, *, cause: Literal["request", "probation"], reason: str) -> int:
        """Roll back while no task is in progress; return the version made."""
        rollback = self._publisher.roll_back(to, cause=cause, reason=reason)
        self._core.roll_back(rollback)
        self._checkpointing.write_between()
        manifest = self._publisher.serve_current()
        self._versions.prune(self._journal.lineage)
        self._observation.published(manifest, self._journal.lineage)
        measured = self._core.measure(rollback.version)
        self._observation.head_measured(measured)
        self._observation.teacher_measured(measured)
        self._observation.rolled_back(rollback, self._journal.lineage)
        return rollback.version

    def retry(self, number: int | None) -> Answer:
        """Have a task that was set aside tried again, after the one in progress."""
        if number is None:
            raise UsageError("retry needs the number of a task")
        lineage = self._journal.lineage
        self._retrying.add(number, lineage)
        self._release()
        return {"task": number, "after": lineage.unfinished.task if lineage.unfinished else None}

    def drain(self, _: int | None) -> Answer:
        """Have all learned that there is, also what would wait for more, and the process end."""
        self._draining.ask()
        return {"process": os.getpid()}
