"""River's change detectors behind one form: values in, a rise out, statistic beside threshold.

River comes with SciPy, which takes seconds and 80 MB to import: it is imported by the first
detector that is built, and that is after `drift.min_instances`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from teacherd.daemon.drift_config import ErrorDetectorConfig

_KSWIN_BLOCK = 50
"""Instances whose mean is one value for KSWIN: on zeros and ones a KS test says little."""
_KSWIN_RECENT = 30
_KSWIN_WINDOW = 100
_SMALLEST_P = 1e-300
"""So that its logarithm is a number."""
_ADWIN_SHORTEST = 5
"""River's shortest part of a window."""


class Score(NamedTuple):
    """What a detector has found, and from where on it is an alarm."""

    statistic: float
    threshold: float


class ChangeDetector(Protocol):
    """Watches one series for a rise of its mean; a fall is an improvement, and no alarm."""

    def update(self, values: npt.NDArray[np.float64]) -> int | None:
        """Take values in; return the place of the one that raises an alarm, after which it ends."""

    @property
    def score(self) -> Score:
        """Where it stands."""


def build_detector(
    config: ErrorDetectorConfig, *, min_values: int, is_of_tasks: bool = False
) -> ChangeDetector:
    """Return the configured detector, which must not be `none`.

    Args:
        config: Kind and parameters.
        min_values: Values before there may be an alarm.
        is_of_tasks: Whether a value stands for a task, and not for one instance.
    """
    if config.kind == "adwin":
        return _Adwin(config.adwin_delta, min_values)
    if config.kind == "page_hinkley":
        return _PageHinkley(config, min_values)
    assert config.kind == "kswin", "whoever wants no detector builds none"
    return _Kswin(config.kswin_alpha, min_values, block=1 if is_of_tasks else _KSWIN_BLOCK)


class _Adwin:
    """ADWIN (Bifet and Gavalda 2007): two parts of an adaptive window that differ in their mean."""

    def __init__(self, delta: float, min_values: int) -> None:
        from river.drift import ADWIN  # noqa: PLC0415 (heavy, see above)

        self._delta = delta
        # River's own pause between tests is 32 values: a test of each costs as much as all else.
        self._river = ADWIN(delta=delta, grace_period=min_values)
        self._values: npt.NDArray[np.float64] = np.empty(0)
        self._score = Score(0.0, 1.0)

    def update(self, values: npt.NDArray[np.float64]) -> int | None:
        seen = len(self._values)
        self._values = np.concatenate([self._values, values])
        for place, value in enumerate(values.tolist()):
            width, mean = int(self._river.width), self._river.estimation
            self._river.update(value)
            if self._river.drift_detected and self._river.estimation > mean:
                end = seen + place + 1
                self._score = self._best_cut(self._values[end - width - 1 : end])
                return place
        self._values = self._values[len(self._values) - int(self._river.width) :]
        self._score = self._best_cut(self._values)
        return None

    @property
    def score(self) -> Score:
        return self._score

    def _best_cut(self, window: npt.NDArray[np.float64]) -> Score:
        """Return rise and bound at the cut where the rise comes nearest to its bound.

        The bound is river's (Bifet and Gavalda 2007, theorem 3.2, for a window of any variance).
        """
        total = len(window)
        if total < 2 * _ADWIN_SHORTEST:
            return Score(0.0, 1.0)
        before = np.arange(_ADWIN_SHORTEST, total - _ADWIN_SHORTEST + 1)
        after = total - before
        sums = np.cumsum(window)
        rises = (sums[-1] - sums[before - 1]) / after - sums[before - 1] / before
        share = 1 / (before - _ADWIN_SHORTEST + 1) + 1 / (after - _ADWIN_SHORTEST + 1)
        trust = math.log(2 * math.log(total) / self._delta)
        bounds = np.sqrt(2 * share * window.var() * trust) + 2 / 3 * trust * share
        best = int(np.argmax(rises / bounds))
        # No rise of an error exceeds 1: a bound beyond says only that the window is short.
        return Score(max(0.0, float(rises[best])), min(1.0, float(bounds[best])))


class _PageHinkley:
    """Page-Hinkley: what the values exceed their mean by, added up since it was least."""

    def __init__(self, config: ErrorDetectorConfig, min_values: int) -> None:
        from river.drift import PageHinkley  # noqa: PLC0415 (heavy, see above)

        self._threshold = config.page_hinkley_threshold
        self._river = PageHinkley(
            min_instances=min_values,
            delta=config.page_hinkley_delta,
            threshold=config.page_hinkley_threshold,
            mode="up",
        )

    def update(self, values: npt.NDArray[np.float64]) -> int | None:
        return _first_alarm(self._river, values.tolist())

    @property
    def score(self) -> Score:
        # River has no public name for its statistic.
        risen = self._river._sum_increase - self._river._min_increase  # noqa: SLF001
        return Score(max(0.0, risen) if math.isfinite(risen) else 0.0, self._threshold)


class _Kswin:
    """KSWIN (Raab et al. 2020): a KS test of the newest values against a draw of earlier ones."""

    def __init__(self, alpha: float, min_values: int, *, block: int) -> None:
        from river.drift import KSWIN  # noqa: PLC0415 (heavy, see above)

        self._alpha = alpha
        self._block = block
        self._min_values = min_values
        self._num_values = 0
        self._open: list[float] = []
        self._river = KSWIN(alpha=alpha, window_size=_KSWIN_WINDOW, stat_size=_KSWIN_RECENT, seed=0)

    def update(self, values: npt.NDArray[np.float64]) -> int | None:
        for place, value in enumerate(values.tolist()):
            self._num_values += 1
            self._open.append(value)
            if len(self._open) == self._block:
                block = sum(self._open) / self._block
                self._open.clear()
                if self._rises_by(block) and self._num_values >= self._min_values:
                    return place
        return None

    @property
    def score(self) -> Score:
        is_ready = len(self._river.window) == _KSWIN_WINDOW or self._river.drift_detected
        p_value = self._river.p_value if is_ready else 1.0
        return Score(-math.log10(max(p_value, _SMALLEST_P)), -math.log10(self._alpha))

    def _rises_by(self, value: float) -> bool:
        """Take a value in; after a drift river's window holds only the newest ones."""
        before = sum(self._river.window) / max(1, len(self._river.window))
        self._river.update(value)
        now = sum(self._river.window) / len(self._river.window)
        return bool(self._river.drift_detected) and now > before


def _first_alarm(river: Any, values: Sequence[float]) -> int | None:  # noqa: ANN401 (river's)
    for place, value in enumerate(values):
        river.update(value)
        if river.drift_detected:
            return place
    return None
