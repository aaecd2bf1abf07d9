"""Tests of showing several ranks as one whole."""

import json
from typing import Any

from teacherd.consumers.buffer_standing import BufferStanding
from teacherd.consumers.record import Partition
from teacherd.daemon.ages import lag_seconds
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.rank_message import RankMessage
from teacherd.daemon.rank_observation import RankObservation, figures_of, whole
from teacherd.daemon.rank_report import RankReport
from teacherd.daemon.status_board import StatusBoard

STANDING = BufferStanding(
    instances=3,
    records=4,
    cause=None,
    age_seconds=1.0,
    waiting_records=4,
    waiting_instances=3,
    waiting_bytes=100,
)


def intake(number: int, *, lag: int, oldest_ms: int | None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (plain data)
    """Return the section of a rank that reads one partition."""
    return {
        "records": 10,
        "rejected": 1,
        "positions": {f"t/{number}": 10},
        "lag": {f"t/{number}": lag},
        "oldest_timestamp_ms": oldest_ms,
        "stalled": [],
        "is_paused": False,
        **more,
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return a sample."""
    found = metrics.registry.get_sample_value(f"teacherd_{name}", labels)
    assert found is not None
    return found


def report_of(metrics: Metrics, section: dict[str, Any]) -> RankReport:
    """Return a report as rank 0 gets it."""
    report = RankReport(standing=STANDING, intake=section, figures=figures_of(metrics))
    return RankReport.from_message(RankMessage.from_bytes(report.to_message().to_bytes()))


def test_counters_of_all_ranks_are_one_series() -> None:
    """Each tick adds what came since the last one; gauges are as they are."""
    mine, theirs = Metrics(), Metrics()
    observation = RankObservation(mine, StatusBoard(monotonic=lambda: 0.0))
    mine.records_rejected.labels("format").inc(2)
    for _ in range(2):
        theirs.records_consumed.labels("t", "1").inc(5)
        theirs.records_rejected.labels("format").inc()
        theirs.record_bytes.inc(7)
        theirs.lag_records.labels("t", "1").set(3)
        observation.show([report_of(theirs, {})])

    assert 10 == value(mine, "records_consumed_total", topic="t", partition="1")
    assert 4 == value(mine, "records_rejected_total", reason="format")
    assert 14 == value(mine, "record_bytes_total")
    assert 3 == value(mine, "consumer_lag_records", topic="t", partition="1")
    assert 4 == value(mine, "rank_buffer_records", rank="1")
    assert 2 == value(mine, "ranks")


def test_the_status_is_of_all_ranks_together() -> None:
    """Positions and lag of every partition, the oldest record, whatever is wrong anywhere."""
    board = StatusBoard(monotonic=lambda: 0.0)
    board.update("intake", **intake(0, lag=1, oldest_ms=9000))
    board.update("buffer", records=6)
    broken = {"error": "no broker", "failures": 2, "is_paused": True}
    other = intake(1, lag=5, oldest_ms=4000, **broken)
    observation = RankObservation(Metrics(), board)
    observation.show([report_of(Metrics(), other)])
    status = whole(board.snapshot())

    json.dumps(status)
    assert {Partition("t", 1): (10, 5)} == observation.stream()
    assert {"t/0": 1, "t/1": 5} == status["intake"]["lag"]
    assert {"t/0": 10, "t/1": 10} == status["intake"]["positions"]
    assert (20, 2) == (status["intake"]["records"], status["intake"]["rejected"])
    assert ("no broker", 2, True) == tuple(status["intake"][name] for name in broken)
    assert 6.0 == lag_seconds(status, now=10.0)
    assert [
        {
            "rank": 0,
            "waiting": 2,
            "partitions": 1,
            "records": 10,
            "lag": 1,
            "is_paused": False,
            "error": None,
        },
        {
            "rank": 1,
            "waiting": 4,
            "partitions": 1,
            "records": 10,
            "lag": 5,
            "is_paused": True,
            "error": "no broker",
        },
    ] == status["ranks"]["each"]


def test_a_process_alone_is_shown_as_before() -> None:
    """There is no section of ranks."""
    board = StatusBoard(monotonic=lambda: 0.0)
    board.update("intake", **intake(0, lag=1, oldest_ms=None))

    assert board.snapshot() == whole(board.snapshot())
