"""Tells drift: holds what a task showed against the history, by every detector that is switched on.

error: the head's errors, instance by instance. outer: its error ratio, task by task. inputs: where
their embeddings lie. labels: the shares of the classes. docs/drift.md says how each was chosen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from teacherd.daemon.change_detector import ChangeDetector, Score, build_detector
from teacherd.daemon.drift_config import DriftConfig
from teacherd.daemon.drift_history import (
    CONCEPT_DETECTORS,
    DriftHistory,
    Part,
    Values,
    classes_of,
    errors_of,
    sketch_of,
)
from teacherd.daemon.entries import Observed

_MIN_RATIOS = 5
"""Outer ratios before there can be an alarm."""


class Finding(NamedTuple):
    """What one detector says."""

    score: Score
    is_alarm: bool
    place: int | None = None
    """Of the instance in its task that raised the alarm, by the detector of `error`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReading:
    """What the detectors say about one task."""

    observed: Observed | None = None
    """None where the task was observed before, or nothing is watched."""
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """Of the detectors that had enough to go by."""
    newest_event_ms: int = 0
    """Event time of the task's newest instance."""

    @property
    def alarms(self) -> tuple[str, ...]:
        """The detectors that see drift."""
        return tuple(name for name, finding in self.findings.items() if finding.is_alarm)

    @property
    def is_concept_drift(self) -> bool:
        """Whether what was learned does not hold any more."""
        return is_concept_drift(self.alarms)

    @property
    def figures(self) -> dict[str, float]:
        """Statistics and thresholds, as an outcome keeps them."""
        figures = {}
        for name, finding in self.findings.items():
            figures[f"drift.{name}"] = finding.score.statistic
            figures[f"drift.{name}.threshold"] = finding.score.threshold
        return figures


def is_concept_drift(alarms: tuple[str, ...]) -> bool:
    """Tell whether such alarms say that what was learned does not hold any more."""
    return not CONCEPT_DETECTORS.isdisjoint(alarms)


class ErrorWatch:
    """The detector of `error`: goes on where it stands, and is built anew where history jumped."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._detector: ChangeDetector | None = None
        self._stands_at: tuple[int, int] | None = None

    def update(self, history: DriftHistory, errors: Values, *, task: int) -> Finding | None:
        """Take in the errors of the task after the history's, or some more of them.

        Returns:
            None while there is too little to go by.
        """
        config = self._config.error
        is_short = history.num_errors + len(errors) < self._config.min_instances
        if config.kind == "none" or is_short:
            return None
        if self._detector is None or self._stands_at != (history.errors_begin, history.last_task):
            self._detector = build_detector(config, min_values=self._config.min_instances)
            for earlier in history.errors:
                self._detector.update(earlier)
        place = self._detector.update(errors)
        self._stands_at = (history.errors_begin, task)
        return Finding(self._detector.score, place is not None, place)


class DriftWatch:
    """Reads one task after another; what it remembers is only to save time."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._error = ErrorWatch(config)

    def read(self, history: DriftHistory, observed: Observed, *, task: int) -> DriftReading:
        """Hold a task against those before it; the same arguments always give the same."""
        errors = errors_of(observed)
        found = {
            "error": self._error.update(history, errors, task=task),
            "outer": self._read_outer(history, errors),
            "inputs": self._read_inputs(history, observed),
            "labels": self._read_labels(history, observed),
        }
        findings = {name: finding for name, finding in found.items() if finding is not None}
        return DriftReading(observed=observed, findings=findings)

    def _read_outer(self, history: DriftHistory, errors: Values) -> Finding | None:
        ratio = history.ratio_with(errors)
        config = self._config.outer
        if config.kind == "none" or ratio is None or len(history.ratios) + 1 < _MIN_RATIOS:
            return None
        detector = build_detector(config, min_values=_MIN_RATIOS, is_of_tasks=True)
        place = detector.update(np.array([*history.ratios, ratio]))
        return Finding(detector.score, place is not None)

    def _read_inputs(self, history: DriftHistory, observed: Observed) -> Finding | None:
        pair = history.inputs.pair_with(sketch_of(observed)) if observed.sketch else None
        if pair is None:
            return None
        config = self._config
        score = mean_discrepancy(*pair, false_alarm_rate=config.false_alarm_rate)
        return _finding(score, config.smallest_input_shift)

    def _read_labels(self, history: DriftHistory, observed: Observed) -> Finding | None:
        config = self._config
        pair = history.labels.pair_with(classes_of(observed)) if config.watch_labels else None
        if pair is None:
            return None
        score = total_variation(*pair, false_alarm_rate=config.false_alarm_rate)
        return _finding(score, config.smallest_label_shift)


def total_variation(reference: Part, recent: Part, *, false_alarm_rate: float) -> Score:
    """Hold class shares against each other: the share of instances that would have to change.

    The threshold is exceeded at most that often if all instances are drawn alike: the distance's
    mean (Jensen), and by how much it exceeds that (McDiarmid 1989: one instance of n moves it by
    1/n at most).
    """
    size = max(len(reference.values), len(recent.values))
    first, second = (
        np.pad(each.mean, (0, size - len(each.values))) for each in (reference, recent)
    )
    share = 1 / reference.num_instances + 1 / recent.num_instances
    together = reference.plus(recent).mean
    mean = 0.5 * float(np.sqrt(together * (1 - together) * share).sum())
    excess = math.sqrt(share * math.log(1 / false_alarm_rate) / 2)
    return Score(0.5 * float(np.abs(first - second).sum()), mean + excess)


def mean_discrepancy(reference: Part, recent: Part, *, false_alarm_rate: float) -> Score:
    """Hold mean sketches against each other: their Euclidean distance, which is the MMD.

    The threshold as in `total_variation`: a sketch of one instance has norm 1, and two of them are
    about the square root of 2 apart at most (compare Gretton et al. 2012, theorem 7).
    """
    share = 1 / reference.num_instances + 1 / recent.num_instances
    together = reference.plus(recent).mean
    mean = math.sqrt(share * max(0.0, 1 - float(together @ together)))
    excess = math.sqrt(share * math.log(1 / false_alarm_rate))
    return Score(float(np.linalg.norm(reference.mean - recent.mean)), mean + excess)


def _finding(score: Score, smallest: float) -> Finding:
    """Ask for a shift that is both sure and large."""
    threshold = max(score.threshold, smallest)
    return Finding(Score(score.statistic, threshold), score.statistic > threshold)
