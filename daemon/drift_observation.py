"""Tells people of drift: metrics, a log event per alarm, a section of the status."""

from typing import Any

import structlog

from teacherd.daemon.drift_history import DETECTORS, DriftHistory
from teacherd.daemon.entries import Outcome
from teacherd.daemon.metrics import Metrics


class DriftObservation:
    """Counts alarms as they come; newest statistics and last alarms are the lineage's."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger()

    def task_closed(self, outcome: Outcome) -> None:
        """An outcome is durable, with what the detectors saw in its task."""
        for name in outcome.alarms:
            self._metrics.drift_detected.labels(name).inc()
            self._log.warning(
                "drift_detected",
                task=outcome.task,
                detector=name,
                score=round(outcome.figures[f"drift.{name}"], 4),
                threshold=round(outcome.figures[f"drift.{name}.threshold"], 4),
            )

    def status(self, history: DriftHistory) -> dict[str, Any]:
        """Return the section of the status; the metrics of the same values follow it."""
        for name, at_ms in history.last_alarm_ms.items():
            self._metrics.drift_last_alarm.labels(name).set(at_ms / 1000)
        for name, (score, threshold) in history.last_scores.items():
            self._metrics.drift_score.labels(name).set(score)
            self._metrics.drift_threshold.labels(name).set(threshold)
        return {
            name: {
                "score": score,
                "threshold": threshold,
                "alarmed": name in history.alarms_of_last_task,
                "last_alarm_task": history.last_alarm_task.get(name),
                "last_alarm_ms": history.last_alarm_ms.get(name),
            }
            for name in DETECTORS
            for score, threshold in [history.last_scores.get(name, (None, None))]
        }
