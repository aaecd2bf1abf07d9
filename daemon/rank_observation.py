"""Shows what other ranks report: in the metrics and in the status of rank 0, as parts of one whole.

Counters of the stream are one series each, whoever has counted; `rank` is a label only of what is
a rank's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prometheus_client import Counter, Gauge

from teacherd.consumers.record import Partition
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.rank_report import RankReport
from teacherd.daemon.status_board import StatusBoard

_COUNTERS = (
    "records_consumed",
    "record_bytes",
    "records_rejected",
    "dead_letters",
    "large_dead_letters",
    "source_failures",
    "records_lost",
    "commit_failures",
)
_GAUGES = ("lag_records", "partition_stalled")

Figures = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
"""Labels and value of each series, by the attribute of Metrics that has them."""


def figures_of(metrics: Metrics) -> Figures:
    """Return what a rank has counted and sees of its part of the stream."""
    return {
        name: [
            (sample.labels, sample.value)
            for family in getattr(metrics, name).collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        for name in (*_COUNTERS, *_GAUGES)
    }


class RankObservation:
    """Takes in the reports of each tick; decides nothing."""

    def __init__(self, metrics: Metrics, board: StatusBoard) -> None:
        self._metrics = metrics
        self._board = board
        self._counted: dict[tuple[int, str, tuple[str, ...]], float] = {}
        self._stream: Mapping[Partition, tuple[int, int]] = {}

    def stream(self) -> Mapping[Partition, tuple[int, int]]:
        """Return position and lag of the partitions that other ranks read."""
        return self._stream

    def show(self, reports: Sequence[RankReport]) -> None:
        """Show what the ranks from 1 on say."""
        self._metrics.ranks.set(len(reports) + 1)
        self._stream = {
            _partition(name): (position, report.intake.get("lag", {}).get(name, 0))
            for report in reports
            for name, position in report.intake.get("positions", {}).items()
        }
        for rank, report in enumerate(reports, start=1):
            self._take_figures(rank, report.figures)
            waiting = report.standing.waiting_records
            self._metrics.rank_buffer_records.labels(rank).set(waiting)
        self._board.update(
            "ranks",
            size=len(reports) + 1,
            others=[
                {"rank": rank, "intake": dict(report.intake), **asdict(report.standing)}
                for rank, report in enumerate(reports, start=1)
            ],
        )

    def _take_figures(self, rank: int, figures: Figures) -> None:
        for name, series in figures.items():
            metric: Counter | Gauge = getattr(self._metrics, name)
            for labels, value in series:
                one = metric.labels(**labels) if labels else metric
                if isinstance(one, Gauge):
                    one.set(value)
                    continue
                key = (rank, name, tuple(labels.values()))
                one.inc(value - self._counted.get(key, 0.0))
                self._counted[key] = value


def whole(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return a board's snapshot in which the intake is that of all ranks together."""
    sections = dict(sections)
    ranks = sections.get("ranks")
    if ranks is None:
        return sections
    own = sections.get("intake", {})
    others = ranks["others"]
    waiting = [other["waiting_records"] for other in others]
    total = sections.get("buffer", {}).get("records", 0)
    intakes = [own, *(other["intake"] for other in others)]
    sections["intake"] = _together(intakes)
    sections["ranks"] = {
        "size": ranks["size"],
        "each": [
            {"rank": rank, "waiting": records, **_in_short(intake)}
            for rank, (records, intake) in enumerate(
                zip([max(0, total - sum(waiting)), *waiting], intakes, strict=True)
            )
        ],
    }
    return sections


def _partition(name: str) -> Partition:
    topic, _, number = name.rpartition("/")
    return Partition(topic, int(number))


def _in_short(intake: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partitions": len(intake.get("positions", ())),
        "records": intake.get("records", 0),
        "lag": sum(intake.get("lag", {}).values()),
        "is_paused": intake.get("is_paused", False),
        "error": intake.get("error"),
    }


def _together(intakes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one section of several of the same keys."""
    joined: dict[str, Any] = dict(intakes[0])
    oldest = [each.get("oldest_timestamp_ms") for each in intakes]
    known = [timestamp for timestamp in oldest if timestamp is not None]
    joined["oldest_timestamp_ms"] = min(known) if known else None
    for name in ("records", "rejected"):
        joined[name] = sum(each.get(name, 0) for each in intakes)
    for name in ("positions", "lag"):
        joined[name] = {key: at for each in intakes for key, at in each.get(name, {}).items()}
    joined["stalled"] = [name for each in intakes for name in each.get("stalled", ())]
    joined["is_paused"] = any(each.get("is_paused") for each in intakes)
    broken = [each for each in intakes if each.get("error")]
    if broken:
        joined |= {name: broken[0].get(name) for name in ("error", "failures")}
    return joined
