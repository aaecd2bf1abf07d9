"""Bounds of the difference of two networks on the same instances: right, and honest about few."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from teacherd.daemon.paired_test import PairedCounts

Z = NormalDist().inv_cdf(0.95)


def test_pairs_are_counted() -> None:
    """Only where exactly one of the two is right does a pair say anything."""
    first = np.array([True, True, False, False, True])
    second = np.array([True, False, True, False, False])
    counts = PairedCounts.of(first, second)

    assert PairedCounts(num=5, won=2, lost=1) == counts
    assert counts.difference == pytest.approx(0.2)
    assert PairedCounts(10, 4, 2) == counts + counts


@pytest.mark.parametrize("num", [1, 10, 133, 1000])
def test_a_tie_bounds_the_difference_by_the_number_of_instances(num: int) -> None:
    """Without a discordant pair the score bound is z^2 / (n + z^2), where Wald's would be 0."""
    counts = PairedCounts(num, 0, 0)
    expected = Z**2 / (num + Z**2)

    assert counts.lower_bound(0.95) == pytest.approx(-expected, rel=1e-6)
    assert counts.upper_bound(0.95) == pytest.approx(expected, rel=1e-6)


def test_the_published_example_comes_out() -> None:
    """Fagerland et al. (2014), data of Bentur et al.: 21 pairs, 1 against 7, two-sided 95 %."""
    counts = PairedCounts(21, 1, 7)

    assert counts.lower_bound(0.975) == pytest.approx(-0.517, abs=5e-4)
    assert counts.upper_bound(0.975) == pytest.approx(-0.026, abs=5e-4)


def test_against_no_difference_it_is_mcnemars_test() -> None:
    """(won - lost) / sqrt(won + lost) against z, however many pairs agree."""
    for won, lost in [(3, 0), (10, 3), (10, 6), (2, 0), (40, 27), (40, 28)]:
        better = (won - lost) / math.sqrt(won + lost) > Z
        for num in (50, 5000):
            assert better == (PairedCounts(num, won, lost).lower_bound(0.95) > 0)


def test_the_bounds_mirror_each_other() -> None:
    """Who is first and who is second changes the sign only."""
    counts, mirrored = PairedCounts(80, 9, 4), PairedCounts(80, 4, 9)

    assert counts.lower_bound(0.95) == pytest.approx(-mirrored.upper_bound(0.95))


def test_extremes_have_bounds() -> None:
    """No instance says nothing; all lost, or all won, is no division by zero."""
    assert (-1.0, 1.0) == (PairedCounts().lower_bound(0.95), PairedCounts().upper_bound(0.95))
    assert PairedCounts(5, 0, 5).lower_bound(0.95) == -1.0
    assert PairedCounts(5, 0, 5).upper_bound(0.95) < -0.2
    assert PairedCounts(5, 5, 0).lower_bound(0.95) > 0.2


@pytest.mark.parametrize(("num", "winning", "losing"), [(50, 0.04, 0.04), (200, 0.02, 0.06)])
def test_the_bound_holds_as_often_as_it_says(num: int, winning: float, losing: float) -> None:
    """In simulated comparisons the true difference lies above the bound in 95 of 100."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(num, [winning, losing, 1 - winning - losing], size=2000)
    above = [
        PairedCounts(num, int(won), int(lost)).lower_bound(0.95) < winning - losing
        for won, lost, _ in draws
    ]

    assert 0.93 <= np.mean(above) <= 0.985
