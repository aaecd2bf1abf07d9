"""The learning thread: owns learner, lineage log, checkpoints and versions.

The order of events of a task is the guarantee: plan, training, version folder, outcome, publish,
checkpoint, `current`, release. Each is durable before the next, so that a crash between any two is
mended from the log.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from teacherd.consumers.buffered_task import BufferedTask, Cause
from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.checkpoint import CheckpointConfig
from teacherd.daemon.checkpointing import Checkpointing
from teacherd.daemon.closing import Closing
from teacherd.daemon.commands import Commands
from teacherd.daemon.config import DecidingConfig
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.deferring import Deferring, ReadyTask
from teacherd.daemon.draining import Draining
from teacherd.daemon.entries import Outcome, Plan, Retry
from teacherd.daemon.interventions import Interventions
from teacherd.daemon.journal import Journal
from teacherd.daemon.observation import Observation
from teacherd.daemon.places import record_skip
from teacherd.daemon.planning import Planning
from teacherd.daemon.publication import VersionStore
from teacherd.daemon.publisher import HELD_BY_ROLLBACK, Publisher
from teacherd.daemon.quarantining import Quarantining
from teacherd.daemon.quick_look import QuickLook
from teacherd.daemon.retrying import Retrying
from teacherd.daemon.running_task import RunningTask
from teacherd.daemon.standing import where_held_out
from teacherd.models.non_finite import NonFiniteError

_CUT_TIMEOUT_SECONDS = 0.2
_RETRY_FACTOR = 0.1
"""Of the learning rate, when a task is tried again after numbers that were not finite."""


@dataclass(frozen=True, slots=True)
class _Reconfiguration:
    """A message from the main thread: other settings from the next task on."""

    deciding: DecidingConfig
    checkpoints: CheckpointConfig


class Learning:
    """Cuts, plans, learns, decides, publishes; one task at a time.

    Args:
        planning: Makes a cut task's plan.
        checkpointing: Writes checkpoints inside a task, and after the last.
        closing: Makes what became of a task durable.
        quarantining: Where a task goes that cannot be learned.
        deferring: Sorts labels, where a task may have new ones.
        retrying: Tasks that a person wants to be tried again.
        commands: What a person asks for, taken between two steps.
        draining: Asked for by one of them.
        stop: Set when the process is to end: the running step is finished, then a checkpoint.
        on_turn: Called between two steps, now and then while a candidate is judged, and while there
            is nothing to do.
    """

    def __init__(
        self,
        *,
        core: DecidingCore,
        journal: Journal,
        planning: Planning,
        checkpointing: Checkpointing,
        closing: Closing,
        publisher: Publisher,
        versions: VersionStore,
        quarantining: Quarantining,
        deferring: Deferring,
        retrying: Retrying,
        commands: Commands,
        buffer: TaskBuffer,
        draining: Draining,
        observation: Observation,
        monotonic: Callable[[], float],
        stop: threading.Event,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._core = core
        self._journal = journal
        self._planning = planning
        self._checkpointing = checkpointing
        self._closing = closing
        self._quarantining = quarantining
        self._deferring = deferring
        self._retrying = retrying
        self._commands = commands
        self._interventions = Interventions(
            journal=journal,
            core=core,
            publisher=publisher,
            versions=versions,
            checkpointing=checkpointing,
            observation=observation,
            retrying=retrying,
            draining=draining,
            close_running=self._close_for_rollback,
            release=closing.release,
        )
        self._buffer = buffer
        self._draining = draining
        self._look = QuickLook(core, buffer=buffer, history=journal.lineage.drift)
        self._observation = observation
        self._monotonic = monotonic
        self._stop = stop
        self._on_turn = on_turn
        self._running: RunningTask | None = None
        self._reconfigurations: queue.SimpleQueue[_Reconfiguration] = queue.SimpleQueue()
        self._log = structlog.get_logger()

    @property
    def is_busy(self) -> bool:
        """Whether a task is in progress."""
        return self._running is not None

    def resume(self, plan: Plan, task: BufferedTask, state: Mapping[str, Any] | None) -> None:
        """Take up a plan that has no outcome yet, from a checkpoint inside it if there is one."""
        self._begin(plan, task, age_seconds=0.0)
        # It is closed already where there is nothing to learn, or a probation fails by other bits.
        if state is not None and self._running is not None:
            try:
                self._core.load_state_dict(state)
            except (KeyError, ValueError) as error:
                # Of another version of teacherd: the plan says all that is needed to begin again.
                self._log.warning("checkpoint_unfit", task=plan.task, error=str(error))
                self._core.discard()
                self._begin(plan, task, age_seconds=0.0)
        if self._running is not None:
            self._running.is_whole = False
        self._log.info("task_resumed", task=plan.task, step=self._core.num_steps_done)

    def lose(self, plan: Plan, reason: str) -> None:
        """Close a plan whose records are gone: the weights stay, the places are past it."""
        self._running = RunningTask(plan, None, started=self._monotonic())
        self._close(Outcome(task=plan.task, result="lost", reasons=(reason,)))

    def reconfigure(self, deciding: DecidingConfig, checkpoints: CheckpointConfig) -> None:
        """Have other settings taken over from the next task on; called by another thread."""
        self._reconfigurations.put(_Reconfiguration(deciding, checkpoints))

    def run(self) -> None:
        """Learn until told to stop; leave a checkpoint."""
        while self.tick():
            self._show_life()
        if self._running is None:
            self._checkpointing.write_between()
        elif not self._quarantining.is_running:
            self._checkpointing.write_inside(self._running.plan)

    def _show_life(self) -> None:
        self._observation.beat("learning")
        self._on_turn()

    def tick(self) -> bool:
        """Make one step, or cut the next task; return whether to go on."""
        if self._deferring.is_running:
            # What its labels are was sorted for the head of now.
            self._begin_ready()
            return not self._stop.is_set()
        self._commands.obey(self._interventions.handlers)
        if self._quarantining.is_running:
            quarantined = self._quarantining.poll(_CUT_TIMEOUT_SECONDS)
            if quarantined is not None:
                self._close(quarantined)
        elif self._running is None:
            self._take_reconfigurations()
            self._begin_next()
        elif self._step():
            self._checkpointing.write_if_due(self._task.plan)
        return not self._stop.is_set()

    def _begin_next(self) -> None:
        """Take up a task that is to be tried again, else cut the next one when it is due."""
        self._note_skips()
        if self._retrying.is_waiting:
            lineage = self._journal.lineage
            again = self._retrying.poll(lineage, _CUT_TIMEOUT_SECONDS)
            if again is not None and not self._stop.is_set():
                self._begin_again(again)
            if again is not None or not self._retrying.lets_others_pass(lineage):
                return
        cause = self._wait_for_cause()
        # In that time a gap may have come before what is to be cut.
        self._note_skips()
        if cause is not None and not self._stop.is_set():
            # The wait was longer than a reload takes, and what is planned now is "the next task".
            self._take_reconfigurations()
            age_seconds = self._buffer.oldest_age_seconds
            self._deferring.begin(
                self._buffer.cut(cause), self._core.settings, age_seconds=age_seconds
            )
            self._begin_ready()

    def _begin_ready(self) -> None:
        """Plan and begin the task that was cut, once what its plan relies on is durable."""
        ready = self._deferring.poll(_CUT_TIMEOUT_SECONDS)
        if ready is not None and not self._stop.is_set():
            self._begin(self._plan(ready), ready.task, age_seconds=ready.age_seconds)

    def _note_skips(self) -> None:
        for lost in self._buffer.take_skips():
            record_skip(self._journal, lost)

    def _wait_for_cause(self) -> Cause | None:
        """Return why a task should be cut now, None if none should be; end when all is drained."""
        cause = self._buffer.wait_for_cut(_CUT_TIMEOUT_SECONDS)
        if cause is None and self._look.finds_drift():
            cause = "drift"
        if cause is None and self._draining.is_complete:
            if self._buffer.num_records:
                cause = "drain"
            else:
                self._log.info("drained")
                self._stop.set()
        return cause

    def _begin_again(self, task: BufferedTask) -> None:
        """Learn a task that was set aside once more, from the head of now."""
        lineage = self._journal.lineage
        retry = self._retrying.take(lineage, self._planning.schedule.learning_rate, task)
        self._journal.record(retry)
        self._observation.task_retried(retry)
        assert lineage.unfinished is not None, "the retry makes it the unfinished one"
        self._begin(lineage.unfinished, task, age_seconds=0.0)

    def _close_for_rollback(self) -> None:
        if self._running is not None:
            task = self._running.plan.task
            reasons = (HELD_BY_ROLLBACK, *self._quarantining.abandon())
            self._close(Outcome(task=task, result="held", reasons=reasons, is_cut_short=True))

    def _take_reconfigurations(self) -> None:
        while not self._reconfigurations.empty():
            new = self._reconfigurations.get()
            settings = self._core.name_base(new.deciding)
            self._journal.record_settings(settings.to_entry())
            self._checkpointing.schedule.config = new.checkpoints
            self._core.configure(settings)
            self._look.reset()
            self._planning.configure(new.deciding)

    def _plan(self, ready: ReadyTask) -> Plan:
        plan = self._planning.plan(ready)
        self._journal.record(plan)
        self._observation.task_planned(plan)
        return plan

    def _begin(self, plan: Plan, task: BufferedTask, *, age_seconds: float) -> None:
        now = self._monotonic()
        self._running = RunningTask(plan, task, started=now)
        self._checkpointing.begin()
        if plan.num_instances == 0:
            self._core.holding_out.take(plan.task, where_held_out(plan), task)
            self._close(Outcome(task=plan.task, result="empty"))
            return
        self._observation.task_begun(plan, age_seconds)
        self._core.begin(plan, task)
        failed = self._core.failed_probation()
        if failed is not None and failed.rolls_back_to is not None:
            self._close(failed)
            to, reason = failed.rolls_back_to, failed.reasons[0]
            self._interventions.take_back(to, cause="probation", reason=reason)
            # What was about to be learned is learned from there.
            self._retrying.add(plan.task, self._journal.lineage)

    def _step(self) -> bool:
        """Make one optimizer step; return whether the task goes on."""
        started = self._monotonic()
        try:
            goes_on = self._core.step()
            self._observation.step_made(
                self._monotonic() - started, self._core.num_steps_done, self._core.num_steps
            )
            if not goes_on:
                self._decide()
        except NonFiniteError as error:
            self._observation.nonfinite_loss()
            self._core.discard()
            self._retry_or_quarantine(str(error))
            return False
        return goes_on

    def _retry_or_quarantine(self, reason: str) -> None:
        """Try the task once more in smaller steps; write its records down if that was no better."""
        running, lineage = self._task, self._journal.lineage
        if lineage.attempt > 1:
            self._quarantining.begin(running.plan, reason)
            return
        retry = Retry(
            task=running.plan.task,
            attempt=lineage.attempt + 1,
            head=lineage.head,
            learning_rate=running.plan.learning_rate * _RETRY_FACTOR,
            cause="nonfinite",
            reason=reason,
            new_classes=running.plan.new_classes,
        )
        self._journal.record(retry)
        self._observation.task_retried(retry)
        assert lineage.unfinished is not None, "the retry is of the plan in progress"
        assert running.task is not None, "it was learned just now"
        running.plan, running.is_whole = lineage.unfinished, False
        self._checkpointing.begin()
        self._core.begin(running.plan, running.task)

    def _decide(self) -> None:
        decision = self._core.decide(on_progress=self._show_life)
        self._closing.close_decided(self._task, decision)
        self._end()

    def _close(self, outcome: Outcome) -> None:
        self._closing.close(self._task, outcome)
        self._end()

    def _end(self) -> None:
        self._running = None
        self._look.reset()

    @property
    def _task(self) -> RunningTask:
        assert self._running is not None, "no task is running"
        return self._running
