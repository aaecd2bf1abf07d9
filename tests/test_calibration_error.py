"""Calibration error: zero where confidence is what it says."""

import numpy as np
import pytest

from teacherd.models.calibration_error import NUM_BINS, expected_calibration_error


def test_confidence_that_is_right_as_often_as_it_says_costs_nothing() -> None:
    """Three of four right at 0.75."""
    confidence = np.full(4, 0.75, dtype=np.float32)
    correct = np.array([True, True, True, False])

    assert 0 == pytest.approx(expected_calibration_error(confidence, correct))


def test_being_sure_and_wrong_costs_all() -> None:
    """The last bin holds confidence 1 as well."""
    assert 1 == expected_calibration_error(np.ones(3, np.float32), np.zeros(3, dtype=bool))


def test_it_is_the_mean_over_bins_by_their_size() -> None:
    """Against the definition, written out."""
    rng = np.random.default_rng(0)
    confidence = rng.random(500).astype(np.float32)
    correct = rng.random(500) < confidence**2
    expected = 0.0
    for place in range(NUM_BINS):
        inside = (confidence >= place / NUM_BINS) & (confidence < (place + 1) / NUM_BINS)
        gap = abs(correct[inside].mean() - confidence[inside].mean())
        expected += inside.sum() / 500 * gap

    assert expected == pytest.approx(expected_calibration_error(confidence, correct), abs=1e-6)
