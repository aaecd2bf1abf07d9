"""Change detectors: an alarm at an exact place, for a rise only, with a statistic beside it."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from teacherd.daemon.change_detector import _Adwin, build_detector
from teacherd.daemon.drift_config import ErrorDetectorConfig, OuterDetectorConfig

CHANGE = 3000


def errors(before: float, after: float, *, seed: int = 7) -> npt.NDArray[np.float64]:
    """Return zeros and ones whose mean changes at CHANGE."""
    draws = np.random.default_rng(seed).random(2 * CHANGE)
    shares = np.repeat([before, after], CHANGE)
    return (draws < shares).astype(np.float64)


@pytest.mark.parametrize(
    ("kind", "place"), [("adwin", 3167), ("page_hinkley", 3233), ("kswin", 4999)]
)
def test_a_rise_is_seen_at_an_exact_place(kind: str, place: int) -> None:
    """Seeded, so that a change of river's or of ours shows."""
    config = ErrorDetectorConfig(kind=kind)  # type: ignore[arg-type]
    detector = build_detector(config, min_values=1000)

    assert place == detector.update(errors(0.15, 0.35))
    assert detector.score.statistic > detector.score.threshold


@pytest.mark.parametrize("kind", ["adwin", "page_hinkley", "kswin"])
def test_a_fall_is_no_alarm(kind: str) -> None:
    """A teacher that gets better does not drift, and a later rise is seen all the same."""
    config = ErrorDetectorConfig(kind=kind)  # type: ignore[arg-type]
    detector = build_detector(config, min_values=1000)

    assert detector.update(errors(0.35, 0.15)) is None
    assert detector.update(errors(0.15, 0.45)) is not None


@pytest.mark.parametrize("kind", ["adwin", "page_hinkley", "kswin"])
def test_it_does_not_matter_how_the_values_are_cut(kind: str) -> None:
    """Tasks of any size give the same alarm: that is what makes a fold of it."""
    config = ErrorDetectorConfig(kind=kind)  # type: ignore[arg-type]
    values = errors(0.15, 0.35)
    whole = build_detector(config, min_values=1000)
    parts = build_detector(config, min_values=1000)
    expected = whole.update(values)
    found = None
    for start in range(0, len(values), 170):
        place = parts.update(values[start : start + 170])
        if place is not None:
            found = start + place
            break

    assert expected == found
    assert whole.score == pytest.approx(parts.score)


def test_nothing_is_an_alarm_before_there_are_values_enough() -> None:
    """The very beginning of a stream says nothing about a change."""
    values = np.repeat([0.0, 1.0], 300)

    assert build_detector(ErrorDetectorConfig(), min_values=1000).update(values) is None
    assert build_detector(ErrorDetectorConfig(), min_values=100).update(values) is not None


def test_the_outer_ratio_is_watched_over_tasks() -> None:
    """A rise of five points adds up within a few tasks."""
    ratios = np.array([0.15, 0.16, 0.14, 0.15, 0.15, 0.16, 0.15, 0.21, 0.22, 0.21, 0.22])
    detector = build_detector(OuterDetectorConfig(), min_values=5, is_of_tasks=True)

    assert 8 == detector.update(ratios)


def test_the_statistic_of_adwin_is_that_of_the_best_cut() -> None:
    """Against the definition, written out."""
    window = errors(0.2, 0.3)[CHANGE - 200 : CHANGE + 200]
    detector = _Adwin(0.002, 1)
    best = (-math.inf, 0.0, 0.0)
    for before in range(5, len(window) - 4):
        after = len(window) - before
        rise = window[before:].mean() - window[:before].mean()
        share = 1 / (before - 4) + 1 / (after - 4)
        trust = math.log(2 * math.log(len(window)) / 0.002)
        bound = math.sqrt(2 * share * window.var() * trust) + 2 / 3 * trust * share
        best = max(best, (rise / bound, rise, bound))

    assert best[1:] == pytest.approx(detector._best_cut(window))


def test_settings_that_mean_nothing_are_refused() -> None:
    """Each names its key and what to do."""
    with pytest.raises(ValueError, match="adwin_delta: 0: must be above 0 and below 1; take"):
        ErrorDetectorConfig(adwin_delta=0)
    with pytest.raises(ValueError, match="kswin_alpha: 1: must be above 0 and below 1; take"):
        ErrorDetectorConfig(kswin_alpha=1)
    with pytest.raises(ValueError, match="page_hinkley_delta: -1: must not be negative; take"):
        ErrorDetectorConfig(page_hinkley_delta=-1)
    with pytest.raises(ValueError, match="page_hinkley_threshold: 0: must be above 0; raise it"):
        ErrorDetectorConfig(page_hinkley_threshold=0)
