"""The mirror's thread: tried again until it works, counted, never in the way of learning."""

import threading
from pathlib import Path

import pytest
from assemblies import feature_records, make_bench
from faulty_store import FaultyStore, new_bucket
from structlog.testing import capture_logs
from versions import publish

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.mirror import Mirror, MirrorConfig
from teacherd.daemon.mirroring import Mirroring
from teacherd.daemon.status_board import StatusBoard
from teacherd.models.hot_teacher import HotTeacher


class Bench:
    """A mirroring with a clock that moves when a test says so."""

    def __init__(self, url: str, root: Path) -> None:
        self.seconds = 0.0
        self.metrics = Metrics()
        self.board = StatusBoard(monotonic=lambda: 0.0)
        self.stop = threading.Event()
        self.mirroring = Mirroring(
            "far",
            Mirror("far", MirrorConfig(url=url), root),
            max_backoff_seconds=8.0,
            metrics=self.metrics,
            board=self.board,
            monotonic=lambda: self.seconds,
            now=lambda: 1000.0 + self.seconds,
            stop=self.stop,
        )

    def value(self, name: str, **labels: str) -> float | None:
        """A metric of this mirror."""
        labels = {"mirror": "far", **labels}
        return self.metrics.registry.get_sample_value(f"teacherd_mirror_{name}", labels)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Over a root with one version and an empty store."""
    publish(tmp_path, 1)
    return Bench(new_bucket(), tmp_path)


def away(_operation: str, _path: str) -> None:
    """A store that nobody reaches."""
    raise OSError("connection refused")


def test_it_converges_at_the_start_and_when_told(bench: Bench, tmp_path: Path) -> None:
    """Without news it asks nothing."""
    bench.mirroring.tick()
    assert 1 == bench.value("version")
    FaultyStore.fault = away
    bench.mirroring.tick()
    FaultyStore.fault = None
    publish(tmp_path, 2)
    bench.mirroring.notify()
    bench.seconds = 5.0
    bench.mirroring.tick()

    assert 2 == bench.value("version")
    assert 1005.0 == bench.value("last_success_timestamp_seconds")
    assert bench.value("failures_total", reason="unreachable") is None
    assert {"far": {"version": 2}} == bench.board.snapshot()["mirrors"]


def test_failures_are_counted_and_tried_again_at_growing_intervals(bench: Bench) -> None:
    """After 1, 2, 4, 8, 8 seconds; said at most each half minute; then the version is there."""
    FaultyStore.fault = away
    tried_at = []
    with capture_logs() as logs:
        for second in range(40):
            bench.seconds = float(second)
            before = bench.value("failures_total", reason="unreachable") or 0
            bench.mirroring.tick()
            if (bench.value("failures_total", reason="unreachable") or 0) > before:
                tried_at.append(second)
        assert "connection refused" in bench.board.snapshot()["mirrors"]["far"]["error"]
        FaultyStore.fault = None
        bench.seconds = 60.0
        bench.mirroring.tick()

    assert [0, 1, 3, 7, 15, 23, 31, 39] == tried_at
    assert 1 == bench.value("version")
    assert ["mirror_failed", "mirror_failed", "mirror_updated"] == [log["event"] for log in logs]
    assert 8 == logs[-1]["failed_attempts"]


def test_a_strangers_place_is_counted_by_its_reason(bench: Bench, tmp_path: Path) -> None:
    """An alert can tell it from a network that is down."""
    bench.mirroring.tick()
    other = Bench(new_bucket(), tmp_path / "other")
    publish(tmp_path / "other", 4, lineage="other")
    other.mirroring._mirror._base = bench.mirroring._mirror._base
    other.mirroring.tick()

    assert 1 == other.value("failures_total", reason="lineage")


def test_what_is_new_at_the_end_gets_one_more_attempt(bench: Bench, tmp_path: Path) -> None:
    """A version published just before a stop need not wait for the next start."""
    bench.mirroring.tick()
    publish(tmp_path, 2)
    bench.mirroring.notify()
    bench.stop.set()

    bench.mirroring.run()

    assert 2 == bench.value("version")


def test_a_daemon_learns_on_while_its_mirror_is_away(tmp_path: Path) -> None:
    """Versions are published as ever; once the store is back, loaders get the newest from it."""
    url = new_bucket()
    mirrors = {"far": {"url": url, "max_backoff_seconds": 1}}
    bench = make_bench(tmp_path, publication={"mirrors": mirrors})
    bench.append(feature_records(20))
    assembly = bench.assemble()
    (mirroring,) = assembly.mirrors
    thread = threading.Thread(target=mirroring.run)
    FaultyStore.fault = away
    thread.start()
    try:
        while len(bench.outcomes()) < 2:
            assembly.intake.tick()
            assembly.learning.tick()
    finally:
        FaultyStore.fault = None
        bench.stop.set()
        thread.join()
        assembly.learning.run()
        assembly.close()

    with HotTeacher(url, cache=tmp_path / "cache", poll_seconds=3600) as teacher:
        assert bench.outcomes()[-1].version == teacher.version
