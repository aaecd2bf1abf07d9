"""The history of drift: a bounded fold that begins anew after an alarm."""

import numpy as np
import pytest

from teacherd.daemon.drift_history import (
    MAX_ERRORS,
    MAX_RATIOS,
    DriftHistory,
    Part,
    errors_of,
    pack_errors,
)
from teacherd.daemon.entries import ENTRY, Observed, Outcome


def observed(
    num: int = 1000, *, wrong: int = 0, classes: tuple[int, ...] = (), sketch: float = 0.5
) -> Observed:
    """Return what a task might have shown, its first instances wrong."""
    return Observed(
        num_instances=num,
        errors=pack_errors(np.arange(num) >= wrong),
        classes=classes or (num,),
        sketch=(sketch, 1.0),
        scale=2.0,
    )


def outcome(task: int, seen: Observed | None, *alarms: str) -> Outcome:
    """Return an outcome as the log gives it back."""
    made = Outcome(
        task=task,
        result="held",
        observed=seen,
        alarms=alarms,
        figures={"newest_event_ms": 1000.0 * task},
    )
    read = ENTRY.validate_json(ENTRY.dump_json(made))
    assert isinstance(read, Outcome)
    return read


def test_errors_survive_the_log() -> None:
    """One bit each, also where they do not fill a byte."""
    correct = np.random.default_rng(0).random(1003) < 0.8
    seen = Observed(num_instances=1003, errors=pack_errors(correct), classes=(1003,))

    assert (~correct).astype(float).tolist() == errors_of(seen).tolist()
    assert len(seen.errors) < 1003 / 5


def test_a_task_that_was_not_observed_changes_nothing() -> None:
    """Empty, lost, tried again, or of before there were detectors."""
    history = DriftHistory()
    history.apply(outcome(1, observed(), "error"))
    history.apply(outcome(2, None))

    assert 1 == history.last_task
    assert ("error",) == history.alarms_of_last_task


def test_an_alarm_makes_its_own_detector_begin_anew() -> None:
    """The others go on; when it was is kept."""
    history = DriftHistory()
    history.apply(outcome(1, observed(wrong=100)))
    history.apply(outcome(2, observed(wrong=200), "error"))

    assert 0 == history.num_errors
    assert [0.1, 0.2] == pytest.approx(list(history.ratios))
    assert {"error": 2000} == history.last_alarm_ms

    history.apply(outcome(3, observed(wrong=300), "outer"))

    assert 1000 == history.num_errors
    assert [] == list(history.ratios)


def test_small_tasks_make_an_outer_ratio_together() -> None:
    """A ratio of ten instances would be noise."""
    history = DriftHistory()
    for task in range(1, 11):
        history.apply(outcome(task, observed(150, wrong=task)))

    assert [28 / 1050] == pytest.approx(list(history.ratios))
    assert 450 == len(history.open_errors)
    assert history.ratio_with(np.zeros(549)) is None
    assert 27 / 1000 == pytest.approx(history.ratio_with(np.zeros(550)) or 0)


def test_it_is_bounded() -> None:
    """However long a lineage becomes."""
    history = DriftHistory()
    seen = observed(2000)
    for task in range(1, 2 * MAX_RATIOS):
        history.apply(Outcome(task=task, result="held", observed=seen))

        assert history.num_errors <= MAX_ERRORS
        assert len(history.ratios) <= MAX_RATIOS
        assert len(history.labels._recent) <= 1
    assert history.errors_begin > 1


def test_a_task_beyond_the_bound_is_kept_alone() -> None:
    """Half a task could not be told from the whole one."""
    history = DriftHistory()
    history.apply(outcome(1, observed(100)))
    history.apply(outcome(2, observed(MAX_ERRORS + 1)))

    assert [MAX_ERRORS + 1] == [len(each) for each in history.errors]


def test_the_reference_is_the_first_tasks_and_is_held_against_the_newest() -> None:
    """The reference is complete with 2000 instances, the newest are 1000 at least."""
    history = DriftHistory()
    newest = Part(np.array([0.0, 400.0]), 400)
    for task in range(1, 6):
        history.apply(outcome(task, observed(400, classes=(400,))))

    assert history.labels.pair_with(newest) is None

    for task in range(6, 10):
        history.apply(outcome(task, observed(400, classes=(0, 400))))

    pair = history.labels.pair_with(newest)
    assert pair is not None
    assert ([2000.0], 2000) == (pair[0].values.tolist(), pair[0].num_instances)
    assert ([0.0, 1200.0], 1200) == (pair[1].values.tolist(), pair[1].num_instances)


def test_after_an_alarm_labels_are_held_against_what_alarmed() -> None:
    """The new shares are what is usual from now on."""
    history = DriftHistory()
    for task in range(1, 3):
        history.apply(outcome(task, observed(2000, classes=(2000, 0))))
    history.apply(outcome(3, observed(2000, classes=(0, 2000)), "labels"))
    pair = history.labels.pair_with(Part(np.array([0.0, 1000.0]), 1000))

    assert pair is not None
    assert [0.0, 1.0] == pair[0].mean.tolist()
    assert [0.0, 1.0] == pair[1].mean.tolist()


def test_after_an_alarm_of_the_inputs_their_scale_is_measured_anew() -> None:
    """Sketches of two scales cannot be compared, so the next task begins the reference."""
    history = DriftHistory()
    history.apply(outcome(1, observed(2000)))

    assert 2.0 == history.scale

    history.apply(outcome(2, observed(2000), "inputs"))

    assert history.scale is None
    assert history.inputs.pair_with(Part(np.zeros(2), 1000)) is None
