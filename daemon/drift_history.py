"""What the drift detectors go by: a bounded part of what the outcomes in the lineage log observed.

A fold over the log's entries, so that it is the same live, after a crash and in a replay, and no
checkpoint has to hold it. After an alarm a detector's part begins anew.
"""

import base64
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teacherd.daemon.entries import Observed, Outcome

DETECTORS = ("error", "outer", "inputs", "labels")
CONCEPT_DETECTORS = frozenset({"error", "outer"})
"""What they see contradicts what was learned; inputs and labels may shift without that."""
MAX_ERRORS = 50_000
"""Instances whose errors are kept; beyond that the older half goes."""
MAX_RATIOS = 1000
"""Outer ratios that are kept; beyond that the older half goes."""
RATIO_INSTANCES = 1000
"""An outer ratio is that of one task, or of several that have so many instances together."""
REFERENCE_INSTANCES = 2000
"""Inputs and labels are held against the first tasks that have so many together."""
RECENT_INSTANCES = 1000
"""What is held against them: the newest tasks that have so many together."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Some instances' sum: of their sketches or of their classes."""

    values: Values
    num_instances: int

    def plus(self, other: "Part") -> "Part":
        """Return both together; classes may have been added in between."""
        shorter, longer = sorted((self.values, other.values), key=len)
        values = longer.copy()
        values[: len(shorter)] += shorter
        return Part(values, self.num_instances + other.num_instances)

    @property
    def mean(self) -> Values:
        """The mean over the instances."""
        return self.values / self.num_instances


class ReferenceAndRecent:
    """A reference that stands, and the newest tasks beside it."""

    def __init__(self) -> None:
        self._reference: Part | None = None
        self._recent: deque[Part] = deque()

    def pair_with(self, part: Part) -> tuple[Part, Part] | None:
        """Return reference and newest tasks, this one included; None while either is short."""
        reference = self._reference
        if reference is None or reference.num_instances < REFERENCE_INSTANCES:
            return None
        newest = part
        for earlier in reversed(self._recent):
            if newest.num_instances >= RECENT_INSTANCES:
                break
            newest = newest.plus(earlier)
        return (reference, newest) if newest.num_instances >= RECENT_INSTANCES else None

    def add(self, part: Part) -> None:
        """Take a task in: into the reference while that is short."""
        if self._reference is None:
            self._reference = part
        elif self._reference.num_instances < REFERENCE_INSTANCES:
            self._reference = self._reference.plus(part)
        else:
            self._recent.append(part)
            excess = sum(each.num_instances for each in self._recent) - RECENT_INSTANCES
            while excess >= self._recent[0].num_instances:
                excess -= self._recent.popleft().num_instances

    def clear(self) -> None:
        """Begin anew: the next task is the reference."""
        self._reference = None
        self._recent.clear()


class DriftHistory:
    """The part of the past that decides the next reading; bounded."""

    def __init__(self) -> None:
        self.last_task = 0
        """The newest that was observed; none before it is observed again."""
        self.errors: deque[Values] = deque()
        """Of the tasks since the last alarm of `error`, oldest first: 1 where the head erred."""
        self.errors_begin = 1
        """How often `errors` has lost its beginning: with `last_task` it says what is in it."""
        self.ratios: deque[float] = deque()
        """Outer ratios since the last alarm of `outer`, oldest first."""
        self.open_errors: Values = np.empty(0)
        """Of the newest tasks, too few for a ratio."""
        self.inputs = ReferenceAndRecent()
        self.labels = ReferenceAndRecent()
        self.scale: float | None = None
        """Of the sketches since the last alarm of `inputs`."""
        self.last_alarm_ms: dict[str, int] = {}
        """By detector: event time of the newest instance of the last task that alarmed it."""
        self.last_alarm_task: dict[str, int] = {}
        """By detector, the last task that alarmed it."""
        self.alarms_of_last_task: tuple[str, ...] = ()
        self.last_scores: dict[str, tuple[float, float]] = {}
        """By detector: the newest statistic and its threshold."""

    def apply(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        observed = outcome.observed
        if observed is None:
            return
        self.last_task = max(self.last_task, outcome.task)
        self.alarms_of_last_task = outcome.alarms
        figures = outcome.figures
        for name in DETECTORS:
            if (score := figures.get(f"drift.{name}")) is not None:
                self.last_scores[name] = score, figures[f"drift.{name}.threshold"]
        for name in outcome.alarms:
            self.last_alarm_task[name] = outcome.task
            self.last_alarm_ms[name] = int(outcome.figures.get("newest_event_ms", 0))
        errors = errors_of(observed)
        self._add_errors(errors, outcome.alarms)
        self._add_ratio(errors, outcome.alarms)
        if "labels" in outcome.alarms:
            self.labels.clear()
        self.labels.add(classes_of(observed))
        if observed.sketch:
            self._add_sketch(observed, has_alarm="inputs" in outcome.alarms)

    @property
    def num_errors(self) -> int:
        """Instances that `errors` tells of."""
        return sum(map(len, self.errors))

    def ratio_with(self, errors: Values) -> float | None:
        """Return the outer ratio that these errors complete; None if they are too few."""
        together = len(self.open_errors) + len(errors)
        if together < RATIO_INSTANCES:
            return None
        return float(self.open_errors.sum() + errors.sum()) / together

    def _add_errors(self, errors: Values, alarms: tuple[str, ...]) -> None:
        if "error" in alarms:
            self.errors.clear()
            self.errors_begin += 1
        else:
            self.errors.append(errors)
        if self.num_errors > MAX_ERRORS:
            while self.num_errors > MAX_ERRORS // 2 and len(self.errors) > 1:
                self.errors.popleft()
            self.errors_begin += 1

    def _add_ratio(self, errors: Values, alarms: tuple[str, ...]) -> None:
        ratio = self.ratio_with(errors)
        if "outer" in alarms:
            self.ratios.clear()
            self.open_errors = np.empty(0)
        elif ratio is None:
            self.open_errors = np.concatenate([self.open_errors, errors])
        else:
            self.ratios.append(ratio)
            self.open_errors = np.empty(0)
        if len(self.ratios) > MAX_RATIOS:
            self.ratios = deque(list(self.ratios)[MAX_RATIOS // 2 :])

    def _add_sketch(self, observed: Observed, *, has_alarm: bool) -> None:
        if has_alarm:
            # The next task's own scale is that of the new reference, which it begins.
            self.inputs.clear()
            self.scale = None
        else:
            self.scale = observed.scale
            self.inputs.add(sketch_of(observed))


def errors_of(observed: Observed) -> Values:
    """Return 1 for each instance that the head got wrong, else 0."""
    packed = np.frombuffer(base64.b64decode(observed.errors), dtype=np.uint8)
    return np.unpackbits(packed, count=observed.num_instances).astype(np.float64)


def classes_of(observed: Observed) -> Part:
    """Return the instances by class."""
    return Part(np.array(observed.classes, dtype=np.float64), observed.num_instances)


def sketch_of(observed: Observed) -> Part:
    """Return the sum of the sketches of the instances."""
    number = observed.num_instances
    return Part(np.array(observed.sketch, dtype=np.float64) * number, number)


def pack_errors(correct_N: npt.NDArray[np.bool_]) -> str:
    """Return one bit per instance as base64."""
    return base64.b64encode(np.packbits(~correct_N).tobytes()).decode("ascii")
