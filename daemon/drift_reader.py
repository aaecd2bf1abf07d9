"""Reads drift in a task: what it showed, against what the lineage's outcomes showed before it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from teacherd.consumers.buffered_task import Cause
from teacherd.daemon.drift_config import DriftConfig
from teacherd.daemon.drift_history import CONCEPT_DETECTORS, DriftHistory, pack_errors
from teacherd.daemon.drift_watch import DriftReading, DriftWatch, is_concept_drift
from teacherd.daemon.entries import Observed, Outcome
from teacherd.daemon.holdout_split import Instances
from teacherd.daemon.input_sketch import Sketch, sketch
from teacherd.daemon.paired_test import Answers
from teacherd.models.embedding import Embedder

_ALARM_TASKS = 5
"""An alarm is just now for so many tasks."""


class DriftReader:
    """Knows the reading of the task in progress.

    Args:
        history: The lineage's; only read here.
        embedder: Of version 0.
        on_progress: Called after each forward pass.
    """

    def __init__(
        self,
        config: DriftConfig,
        *,
        history: DriftHistory,
        embedder: Embedder,
        on_progress: Callable[[], None],
    ) -> None:
        self._config = config
        self._history = history
        self._embedder = embedder
        self._on_progress = on_progress
        self._watch = DriftWatch(config)
        self.reading = DriftReading()
        """Of the task in progress."""

    def read(self, task: int, instances: Instances, correct: Answers) -> None:
        """Take in a task that is to be learned; one that was observed before shows nothing more.

        Args:
            task: Its number.
            instances: To be learned, of classes that the head knows.
            correct: Which of them it gets right.
        """
        history = self._history
        self.reading = DriftReading()
        if not self._config.is_on or task <= history.last_task or not len(correct):
            return
        seen = Sketch((), 0.0)
        if self._config.watch_inputs:
            embeddings_NE = self._embedder.embed(instances.inputs, on_batch=self._on_progress)
            seen = sketch(embeddings_NE, scale=history.scale)
        observed = Observed(
            num_instances=len(instances.labels),
            errors=pack_errors(correct),
            classes=tuple(np.bincount(instances.labels).tolist()),
            sketch=seen.values,
            scale=seen.scale,
        )
        self.reading = replace(
            self._watch.read(history, observed, task=task),
            newest_event_ms=int(instances.event_times_ms.max()),
        )

    def forget(self) -> None:
        """No task is in progress any more."""
        self.reading = DriftReading()

    def add_to(self, outcome: Outcome) -> Outcome:
        """Add to the outcome of the task in progress what was seen in it."""
        reading = self.reading
        if reading.observed is None:
            return outcome
        figures = {
            **outcome.figures,
            **reading.figures,
            "newest_event_ms": float(reading.newest_event_ms),
        }
        return replace(outcome, observed=reading.observed, alarms=reading.alarms, figures=figures)

    def concept_alarm(self, task: int) -> int | None:
        """Return the task that raised the alarm of a drift of the concept, if it was just now.

        The candidate that contradicts what was before may come a few tasks after the alarm.
        """
        if self.reading.is_concept_drift:
            return task
        alarms = self._history.last_alarm_task
        last = max((alarms[name] for name in CONCEPT_DETECTORS if name in alarms), default=None)
        return last if last is not None and 0 < task - last <= _ALARM_TASKS else None

    def learning_rate_factor(self, cause: Cause) -> float:
        """Return what the learning rate of the task to be planned is multiplied by."""
        has_drifted = cause == "drift" or is_concept_drift(self._history.alarms_of_last_task)
        return self._config.learning_rate_factor if has_drifted else 1.0
