"""HotTeacher's figures for Prometheus, collected when they are scraped."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderStats:
    """What a HotTeacher has done so far, at one moment."""

    version: int | None = None
    """The version that is served; None before the first."""

    swaps: int = 0
    """Versions that replaced another one; the first is none."""

    failures: Mapping[str, int] = field(default_factory=dict)
    """Refused versions by reason."""

    last_swap_seconds: float | None = None
    """From noticing the last version to serving it: read, verified, probed, swapped."""

    last_pause_seconds: float | None = None
    """How long predictions had to wait for that swap; 0 in mode `double`."""

    total_load_seconds: float = 0.0
    """Sum over all versions served, the first included."""

    num_loads: int = 0
    """Versions served, the first included."""

    loaded_at: float | None = None
    """When the served version came in, seconds since the epoch."""

    teacher_age_seconds: float | None = None
    """Since the served version was written."""


class Registry(Protocol):
    """What we need of prometheus_client's CollectorRegistry."""

    def register(self, collector: Any) -> None:  # noqa: ANN401 - its type lives in prometheus_client
        """Add a collector."""


class LoaderMetrics:
    """A collector over a function that gives the stats."""

    def __init__(self, stats: Callable[[], LoaderStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[object]:
        """Yield one family per figure."""
        # An inference process that shows no metrics needs no Prometheus client.
        from prometheus_client import core  # noqa: PLC0415 - see the line above

        stats = self._stats()
        prefix = "teacherd_loader_"
        version = core.GaugeMetricFamily(f"{prefix}version", "Version that is served")
        age = core.GaugeMetricFamily(
            f"{prefix}teacher_age_seconds", "Time since the served version was written"
        )
        if stats.version is not None and stats.teacher_age_seconds is not None:
            version.add_metric([], stats.version)
            age.add_metric([], stats.teacher_age_seconds)
        swaps = core.CounterMetricFamily(
            f"{prefix}swaps", "Newer versions by what became of them", labels=["result"]
        )
        swaps.add_metric(["swapped"], stats.swaps)
        swaps.add_metric(["rejected"], sum(stats.failures.values()))
        rejected = core.CounterMetricFamily(
            f"{prefix}rejected", "Refused versions by reason", labels=["reason"]
        )
        for reason, count in sorted(stats.failures.items()):
            rejected.add_metric([reason], count)
        duration = core.SummaryMetricFamily(
            f"{prefix}swap_duration_seconds",
            "From noticing a version to serving it",
            count_value=stats.num_loads,
            sum_value=stats.total_load_seconds,
        )
        yield from (version, age, swaps, rejected, duration)
