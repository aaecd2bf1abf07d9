"""Tells people of drift: metrics, a log event per alarm, a section of the status."""

from typing import Any

import structlog

from teacherd.daemon.drift_history import DETECTORS, DriftHistory
from teacherd.daemon.entries import Outcome
from teacherd.daemon.metrics import Metrics


class DriftObservation:
    """Knows the newest statistic of each detector; the last alarms are the lineage's."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._scores: dict[str, tuple[float, float]] = {}
        self._log = structlog.get_logger()

    def task_closed(self, outcome: Outcome) -> None:
        """An outcome is durable, with what the detectors saw in its task."""
        for name in DETECTORS:
            score = outcome.figures.get(f"drift.{name}")
            if score is None:
                continue
            threshold = outcome.figures[f"drift.{name}.threshold"]
            self._scores[name] = score, threshold
            self._metrics.drift_score.labels(name).set(score)
            self._metrics.drift_threshold.labels(name).set(threshold)
            if name in outcome.alarms:
                self._metrics.drift_detected.labels(name).inc()
                self._log.warning(
                    "drift_detected",
                    task=outcome.task,
                    detector=name,
                    score=round(score, 4),
                    threshold=round(threshold, 4),
                )

    def status(self, history: DriftHistory) -> dict[str, Any]:
        """Return the section of the status; the metrics of the last alarms follow it."""
        for name, at_ms in history.last_alarm_ms.items():
            self._metrics.drift_last_alarm.labels(name).set(at_ms / 1000)
        return {
            name: {
                "score": score,
                "threshold": threshold,
                "alarmed": name in history.alarms_of_last_task,
                "last_alarm_task": history.last_alarm_task.get(name),
                "last_alarm_ms": history.last_alarm_ms.get(name),
            }
            for name in DETECTORS
            for score, threshold in [self._scores.get(name, (None, None))]
        }
