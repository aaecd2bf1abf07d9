"""What is told of the learning thread: figures, ages, and a status that is never half new."""

from pathlib import Path

import pytest
from assemblies import feature_records, make_bench


def test_freshness_and_age_run_with_the_clock(tmp_path: Path) -> None:
    """They are functions of now, right at every scrape."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(10))
    assembly = bench.assemble()
    assembly.intake.tick()
    assembly.learning.tick()
    while assembly.learning.is_busy:
        assembly.learning.tick()
    before = bench.value("freshness_seconds")
    bench.clock.seconds += 100
    after = bench.value("freshness_seconds")
    age = bench.value("teacher_age_seconds")
    assembly.close()

    assert before is not None
    assert pytest.approx(before + 100) == after
    assert pytest.approx(100) == age


def test_the_oldest_waiting_record_is_found_wherever_it_waits(tmp_path: Path) -> None:
    """Unread, buffered or being learned: the lag in seconds counts until it is decided."""
    bench = make_bench(tmp_path)
    assembly = bench.assemble()

    assert 0.0 == bench.value("consumer_lag_seconds")

    bench.append(feature_records(10))
    bench.clock.seconds += 2
    assembly.intake.tick()
    bench.clock.seconds += 5
    assembly.intake.tick()

    assert (bench.value("consumer_lag_seconds") or 0) > 0

    assembly.learning.tick()

    assert assembly.learning.is_busy

    while assembly.learning.is_busy:
        assembly.learning.tick()
    bench.clock.seconds += 2
    assembly.intake.tick()

    assert 0.0 == bench.value("consumer_lag_seconds")

    assembly.close()


def test_the_status_changes_once_when_a_task_closes(tmp_path: Path) -> None:
    """Tasks, figures and verdict are of the same task, in every snapshot."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(20))
    assembly = bench.assemble()
    assembly.intake.tick()
    seen = []
    for _ in range(60):
        assembly.learning.tick()
        sections = bench.board.snapshot()
        seen.append((sections["lineage"]["tasks"], sections.get("verdict", {}).get("task", 0)))
        if seen[-1] == (2, 2):
            break
    assembly.close()

    assert {(0, 0), (1, 1), (2, 2)} == set(seen)
