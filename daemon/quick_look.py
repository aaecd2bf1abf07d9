"""A look at records while they wait for their task: drift in them may cut it early."""

import numpy as np

from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.drift_history import DriftHistory
from teacherd.daemon.drift_watch import ErrorWatch


class QuickLook:
    """Holds the errors of what waits against the history, between two tasks.

    It sees instances in the order of arrival and only decides when to cut, which the plan records:
    the task's own reading, in the order of identities, is made anew.
    """

    def __init__(self, core: DecidingCore, *, buffer: TaskBuffer, history: DriftHistory) -> None:
        self._core = core
        self._buffer = buffer
        self._history = history
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next task that fills."""
        self._watch = ErrorWatch(self._core.settings.drift)
        self._num_seen = 0
        self._unread = np.empty(0)
        self._has_found = False

    def finds_drift(self) -> bool:
        """Look at what has come since the last look; tell whether the task should be cut."""
        if not self._core.settings.drift.cut_early:
            return False
        inputs, labels, names = self._buffer.peek(self._num_seen)
        if len(labels):
            self._num_seen += len(labels)
            errors = (~self._core.arrivals.judge(inputs, labels, names)).astype(np.float64)
            self._unread = np.concatenate([self._unread, errors])
            self._read()
        return self._has_found and self._buffer.may_be_cut

    def _read(self) -> None:
        finding = self._watch.update(self._history, self._unread, task=self._history.last_task)
        if finding is not None:
            self._unread = np.empty(0)
            self._has_found |= finding.is_alarm
