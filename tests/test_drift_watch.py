"""The drift watch: the same past gives the same reading, and false alarms stay as rare as said."""

import numpy as np
import pytest

from teacherd.daemon.drift_config import DriftConfig, ErrorDetectorConfig, OuterDetectorConfig
from teacherd.daemon.drift_history import DriftHistory, Part, pack_errors
from teacherd.daemon.drift_watch import (
    DriftReading,
    DriftWatch,
    ErrorWatch,
    mean_discrepancy,
    total_variation,
)
from teacherd.daemon.entries import Observed, Outcome

NUM = 500


def observed(rng: np.random.Generator, *, error: float = 0.1, share: float = 0.5) -> Observed:
    """Return a task of two classes, with such an error and such a share of the first class."""
    first = int((rng.random(NUM) < share).sum())
    values = tuple(rng.normal(0.05, 0.002, 4).round(5).tolist())
    return Observed(
        num_instances=NUM,
        errors=pack_errors(rng.random(NUM) >= error),
        classes=(first, NUM - first),
        sketch=values,
        scale=1.0,
    )


def close(history: DriftHistory, task: int, reading: DriftReading) -> None:
    """Fold the outcome of a task."""
    history.apply(
        Outcome(task=task, result="held", observed=reading.observed, alarms=reading.alarms)
    )


def test_a_rise_of_the_error_is_told_once_in_its_task_and_place() -> None:
    """Then what was before is forgotten, and the new error is the usual one."""
    rng, history, watch = np.random.default_rng(3), DriftHistory(), DriftWatch(DriftConfig())
    found = []
    for task in range(1, 41):
        seen = observed(rng, error=0.1 if task < 20 else 0.3)
        reading = watch.read(history, seen, task=task)
        if "error" in reading.alarms:
            found.append((task, reading.findings["error"].place))
        close(history, task, reading)

    assert [(20, 131)] == found
    assert {"error", "outer"} == set(history.last_alarm_ms)


def test_a_watch_that_starts_anew_reads_the_same() -> None:
    """What it remembers saves time and decides nothing: so a crash changes no reading."""
    rng, history, watch = np.random.default_rng(5), DriftHistory(), DriftWatch(DriftConfig())
    for task in range(1, 30):
        seen = observed(rng, error=0.1 + 0.2 * (task >= 12), share=0.5 + 0.3 * (task >= 20))
        reading = watch.read(history, seen, task=task)

        assert reading == DriftWatch(DriftConfig()).read(history, seen, task=task)

        close(history, task, reading)
    assert {"error", "outer", "labels"} == set(history.last_alarm_ms)


def test_reading_a_task_twice_gives_the_same() -> None:
    """A task that is begun again, at another learning rate, has not come twice."""
    rng, history, watch = np.random.default_rng(5), DriftHistory(), DriftWatch(DriftConfig())
    for task in range(1, 6):
        close(history, task, watch.read(history, observed(rng), task=task))
    seen = observed(rng, error=0.5)

    assert watch.read(history, seen, task=6) == watch.read(history, seen, task=6)


def test_only_error_and_outer_ratio_are_drift_of_the_concept() -> None:
    """Other instances may still be classified rightly."""
    rng, history, watch = np.random.default_rng(0), DriftHistory(), DriftWatch(DriftConfig())
    for task in range(1, 9):
        close(history, task, watch.read(history, observed(rng), task=task))
    reading = watch.read(history, observed(rng, share=0.95), task=9)

    assert ("labels",) == reading.alarms
    assert not reading.is_concept_drift
    assert reading.figures["drift.labels"] > reading.figures["drift.labels.threshold"] >= 0.1


def test_moved_inputs_are_told() -> None:
    """Their sketch is compared with that of the first tasks."""
    rng, history, watch = np.random.default_rng(0), DriftHistory(), DriftWatch(DriftConfig())
    for task in range(1, 9):
        close(history, task, watch.read(history, observed(rng), task=task))
    seen = observed(rng)
    moved = Observed(
        num_instances=NUM,
        errors=seen.errors,
        classes=seen.classes,
        sketch=(0.6, 0.05, 0.05, 0.05),
        scale=1.0,
    )

    assert ("inputs",) == watch.read(history, moved, task=9).alarms


def test_what_is_switched_off_is_not_read() -> None:
    """And river is not asked."""
    rng, history = np.random.default_rng(0), DriftHistory()
    watch = DriftWatch(DriftConfig.off())
    for task in range(1, 9):
        reading = watch.read(history, observed(rng), task=task)
        close(history, task, reading)

    assert {"inputs"} == set(reading.findings)
    assert not DriftConfig.off().is_on
    assert DriftConfig().is_on


def test_pieces_of_a_task_are_seen_as_the_whole() -> None:
    """A quick look takes what has arrived so far."""
    rng, history = np.random.default_rng(0), DriftHistory()
    watch = DriftWatch(DriftConfig())
    for task in range(1, 6):
        close(history, task, watch.read(history, observed(rng), task=task))
    errors = (rng.random(400) < 0.6).astype(np.float64)
    whole = ErrorWatch(DriftConfig()).update(history, errors, task=6)
    pieces = ErrorWatch(DriftConfig())
    places = []
    for start in range(0, 400, 25):
        found = pieces.update(history, errors[start : start + 25], task=history.last_task)
        if found is not None and found.is_alarm:
            places.append(start + (found.place or 0))
            break

    assert whole is not None
    assert [whole.place] == places


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_class_shares_that_stay_alarm_as_rarely_as_said(num_classes: int) -> None:
    """At most the stated share of tasks: here at a rate that can be counted."""
    rng, rate = np.random.default_rng(1), 0.05
    shares = rng.dirichlet(np.ones(num_classes))
    alarms = 0
    for _ in range(1000):
        reference = Part(rng.multinomial(2000, shares).astype(float), 2000)
        recent = Part(rng.multinomial(1000, shares).astype(float), 1000)
        score = total_variation(reference, recent, false_alarm_rate=rate)
        alarms += score.statistic > score.threshold

    assert alarms <= rate * 1000


def test_inputs_that_stay_alarm_as_rarely_as_said() -> None:
    """The same, of random features of normal inputs."""
    rng, rate = np.random.default_rng(1), 0.05
    frequencies = rng.standard_normal((8, 64)) / 4

    def part(num: int, shift: float = 0.0) -> Part:
        phases = (rng.standard_normal((num, 8)) + shift) @ frequencies
        features = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / 8
        return Part(features.sum(axis=0), num)

    scores = [mean_discrepancy(part(2000), part(1000), false_alarm_rate=rate) for _ in range(200)]
    moved = mean_discrepancy(part(2000), part(1000, shift=0.5), false_alarm_rate=0.001)

    assert sum(each.statistic > each.threshold for each in scores) <= rate * 200
    assert moved.statistic > moved.threshold


def test_a_class_that_is_new_has_had_no_share() -> None:
    """Heads may grow."""
    reference = Part(np.array([1000.0, 1000.0]), 2000)
    score = total_variation(
        reference, Part(np.array([250.0, 250.0, 500.0]), 1000), false_alarm_rate=0.001
    )

    assert 0.5 == pytest.approx(score.statistic)


def test_settings_that_mean_nothing_are_refused() -> None:
    """Each names its key and what to do."""
    with pytest.raises(ValueError, match="min_instances: 0: must be at least 1; take 1000"):
        DriftConfig(min_instances=0)
    with pytest.raises(ValueError, match="false_alarm_rate: 1: must be above 0 and below 1; take"):
        DriftConfig(false_alarm_rate=1)
    with pytest.raises(ValueError, match="smallest_label_shift: -1: must not be negative; take"):
        DriftConfig(smallest_label_shift=-1)
    with pytest.raises(ValueError, match="learning_rate_factor: 0: must be above 0; 1 changes"):
        DriftConfig(learning_rate_factor=0)


def test_every_kind_can_watch_the_error_and_the_outer_ratio() -> None:
    """None of them speaks before it has enough to go by."""
    rng = np.random.default_rng(0)
    for kind in ("adwin", "page_hinkley", "kswin", "none"):
        config = DriftConfig(
            error=ErrorDetectorConfig(kind=kind),  # type: ignore[arg-type]
            outer=OuterDetectorConfig(kind=kind),  # type: ignore[arg-type]
        )
        history, watch, spoke = DriftHistory(), DriftWatch(config), {}
        for task in range(1, 12):
            reading = watch.read(history, observed(rng), task=task)
            for name in reading.findings:
                spoke.setdefault(name, task)
            close(history, task, reading)

        concept = {} if kind == "none" else {"error": 2, "outer": 10}
        assert {**concept, "inputs": 6, "labels": 6} == spoke
