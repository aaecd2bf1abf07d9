"""Samples of several values over time, in bounded memory: what is long ago gets coarser."""

from collections.abc import Mapping
from typing import Any

_CAPACITY = 600
_NUM_NAMES = 60


class SampleSeries:
    """Keeps samples at least an interval apart; a full series drops every second one.

    Whatever its age it holds between 300 and 600 samples, evenly spread over all of its time.

    Args:
        interval_ms: Between samples at first; doubles whenever the series is full.
    """

    def __init__(self, interval_ms: int = 2000) -> None:
        self._interval_ms = interval_ms
        self._times: list[int] = []
        self._values: dict[str, list[float | None]] = {}

    def append(self, at_ms: int, values: Mapping[str, float | None]) -> None:
        """Take a sample, unless the one before was just now."""
        if len(self._times) == _CAPACITY:
            self._thin()
        if self._times and at_ms - self._times[-1] < self._interval_ms:
            return
        for name in values:
            if name not in self._values and len(self._values) < _NUM_NAMES:
                self._values[name] = [None] * len(self._times)
        self._times.append(at_ms)
        for name, series in self._values.items():
            series.append(values.get(name))

    def to_json(self) -> dict[str, Any]:
        """Return times and, by name, values at those times."""
        series = {name: list(values) for name, values in self._values.items()}
        return {"interval_ms": self._interval_ms, "at_ms": list(self._times), "series": series}

    def _thin(self) -> None:
        self._interval_ms *= 2
        self._times = self._times[1::2]
        kept = {name: values[1::2] for name, values in self._values.items()}
        # A name that is no longer sampled makes room once all that is left of it is empty.
        self._values = {
            name: values
            for name, values in kept.items()
            if any(each is not None for each in values)
        }
