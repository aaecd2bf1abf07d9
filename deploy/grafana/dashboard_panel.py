"""A panel of the Grafana dashboard, and the PromQL that most of them are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are named."""

    expression: str
    legend: str = "{{instance}}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A panel: what a person reads off it, and from which queries."""

    title: str
    says: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Literal["plot", "stat"] = "plot"
    tolerance: float | None = None
    """Beyond it the panel is red: the alert's number."""
    is_better_below: bool = True


def of(metric: str, labels: str = "") -> str:
    """Return a selector of the chosen instances."""
    return f'{metric}{{instance=~"$instance"{", " + labels if labels else ""}}}'


def rate(metric: str, by: str = "") -> str:
    """Return a counter's rate, summed by instance and perhaps a label."""
    labels = f"instance, {by}" if by else "instance"
    return f"sum by ({labels}) (rate({of(metric)}[$__rate_interval]))"


def increase(metric: str, by: str = "") -> str:
    """Return how much a counter grew, summed by instance and perhaps labels."""
    labels = f"instance, {by}" if by else "instance"
    return f"sum by ({labels}) (increase({of(metric)}[$__rate_interval]))"


def or_zero(query: str, label: str) -> str:
    """Return a query that is 0, its label "none", for instances that it knows nothing of.

    What has never happened has no series: its panel would say "No data", as for a dead daemon.
    """
    zero = f"0 * max by (instance) ({of('teacherd_build_info')})"
    return f'{query} or on (instance) label_replace({zero}, "{label}", "none", "", "")'


def quantile(share: float, metric: str) -> str:
    """Return below what a share of a histogram's observations lie."""
    buckets = of(f"{metric}_bucket")
    return f"histogram_quantile({share}, sum by (instance, le) (rate({buckets}[$__rate_interval])))"
