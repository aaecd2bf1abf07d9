"""What reports of courses are made of: runs by method, means with confidence, cells of a table."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from course_runs import Runs
from scipy import stats

Figure = Mapping[str, float | None]
"""`mean` and `ci95`, half the width of its 95 % confidence interval; None for one order."""


class Described(Protocol):
    """A method, as far as a report has to do with it."""

    @property
    def text(self) -> str:
        """What it is, in words."""


class MethodNames:
    """Orders and words the names of runs, `METHOD@SETTING@...`.

    Args:
        methods: By name, in the order of a report.
    """

    def __init__(self, methods: Mapping[str, Described]) -> None:
        self._methods = methods

    def sort(self, names: Mapping[str, Any]) -> list[str]:
        """Return names in the order of the methods, unknown ones last."""
        known = list(self._methods)

        def place(name: str) -> tuple[int, str]:
            method = name.partition("@")[0]
            return (known.index(method) if method in self._methods else len(known), name)

        return sorted(names, key=place)

    def word(self, name: str) -> str:
        """Return what a run is of, in words."""
        method, _, settings = name.partition("@")
        text = self._methods[method].text if method in self._methods else method
        return f"{text}; {settings.replace('@', ', ')}" if settings else text


def runs_by_method(runs: Runs) -> dict[str, dict[int, dict[str, Any]]]:
    """Return all finished runs, by name and order."""
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for order, name, run in runs.all():
        found[name][order] = run
    return found


def orders_of(by_method: Mapping[str, Mapping[int, Any]]) -> list[int]:
    """Return the orders of which there is any run."""
    return sorted({order for each in by_method.values() for order in each})


def means_of(
    samples: Mapping[int, Mapping[str, float]], figures: Sequence[str]
) -> dict[str, Figure]:
    """Return the mean of each figure that every order has.

    Args:
        samples: A method's figures, by order.
        figures: Names.
    """
    return {
        figure: mean_of([each[figure] for each in samples.values()])
        for figure in figures
        if all(figure in each for each in samples.values())
    }


def mean_of(values: Sequence[float]) -> Figure:
    """Return the mean and half the width of its 95 % confidence interval (Student's t)."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return {"mean": round(mean, 4), "ci95": None}
    spread = statistics.stdev(values) / len(values) ** 0.5
    ci95 = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return {"mean": round(mean, 4), "ci95": round(ci95, 4)}


def cell_of(figure: Figure | None, *, digits: int) -> str:
    """Return a figure as a table shows it, with so many digits behind the point."""
    if figure is None or figure["mean"] is None:
        return ""
    text = f"{figure['mean']:.{digits}f}"
    return text if figure["ci95"] is None else f"{text} +- {figure['ci95']:.{digits}f}"
