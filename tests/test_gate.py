"""The gate's rules, one by one, on answers made by hand."""

import numpy as np
import pytest

from teacherd.daemon.entries import Check
from teacherd.daemon.gate import Evidence, Exam, Gate, GateConfig, Verdict

CLASSES = ("cat", "dog")


def exam(num: int, *, won: int = 0, lost: int = 0, task: int = 1, best_only: int = 0) -> Exam:
    """Return a holdout on which the candidate wins some against the served version, and loses some.

    `best_only` are those that only the best version so far gets right.
    """
    candidate = np.ones(num, dtype=np.bool_)
    current = np.ones(num, dtype=np.bool_)
    current[:won] = False
    candidate[won : won + lost] = False
    best = None
    if best_only:
        candidate[-best_only:] = current[-best_only:] = False
        best = np.ones(num, dtype=np.bool_)
    return Exam(task, np.arange(num) % 2, candidate, current, best)


def judge(evidence: Evidence, *, pool_from: int = 0, **settings: float) -> Verdict:
    """Judge with the default rules but for these."""
    return Gate(GateConfig(**settings), CLASSES).judge(evidence, pool_from=pool_from)  # type: ignore[arg-type]


def results(verdict: Verdict) -> dict[tuple[str, str], str]:
    """Return what came of each check."""
    return {(check.holdout, check.against): check.result for check in verdict.checks}


def test_as_good_on_many_instances_passes() -> None:
    """Ten won and ten lost of 2,000: surely not two points worse."""
    verdict = judge(Evidence(exam(2000, won=10, lost=10)))

    assert "passed" == verdict.result
    assert not verdict.is_better


def test_as_good_on_few_instances_is_undecided() -> None:
    """A tie of 20 could hide anything: accepted, but not a reason to serve it."""
    assert "undecided" == judge(Evidence(exam(20))).result


def test_nothing_to_measure_with_is_undecided() -> None:
    """The first tasks of a lineage may have no holdout yet."""
    verdict = judge(Evidence(None))

    assert ("undecided", ()) == (verdict.result, verdict.checks)


def test_surely_worse_fails() -> None:
    """Thirty lost of 300 is more than the allowance, whatever chance did."""
    verdict = judge(Evidence(exam(300, lost=30)))

    assert "failed" == verdict.result
    assert [("newest", "current")] == [(each.holdout, each.against) for each in verdict.failed]


def test_a_tie_needs_so_many_instances() -> None:
    """Just above z^2 (1 - x) / x, which docs/gate.md tells the user."""
    assert "undecided" == judge(Evidence(exam(132))).result
    assert "passed" == judge(Evidence(exam(133))).result


def test_a_sure_gain_passes_although_forgetting_cannot_be_excluded() -> None:
    """Six won of 20 is a gain; that 20 earlier ones say little speaks against nothing."""
    verdict = judge(Evidence(exam(20, won=6), (exam(20, task=0),)))

    assert "undecided" in results(verdict).values()
    assert "passed" == verdict.result


def test_a_sure_gain_does_not_pass_over_what_looks_like_forgetting() -> None:
    """Two lost of 40 earlier ones is five points: not sure, but not nothing."""
    verdict = judge(Evidence(exam(40, won=9, task=2), (exam(40, lost=2),)), pool_instances=1)

    assert ("undecided", "undecided") == (results(verdict)["earlier", "current"], verdict.result)


def test_forgetting_fails_whatever_was_gained() -> None:
    """Better on the newest, surely worse on earlier ones: held."""
    verdict = judge(Evidence(exam(200, won=60, task=2), (exam(300, lost=40),)), pool_instances=100)

    assert verdict.is_better
    assert ["earlier"] == [check.holdout for check in verdict.failed]
    assert "failed" == verdict.result


def test_unlearning_the_base_fails() -> None:
    """What the base model knew is measured by itself."""
    base = exam(1000, lost=60, task=0)
    verdict = judge(Evidence(exam(200, won=60), (), base))

    assert ["base"] == [check.holdout for check in verdict.failed]


def test_small_allowances_do_not_add_up() -> None:
    """As good as the served version is not enough if both are worse than the best so far."""
    verdict = judge(Evidence(exam(1000, best_only=60)))

    assert "passed" == results(verdict)["newest", "current"]
    assert "failed" == results(verdict)["newest", "best"]
    assert "failed" == verdict.result


def test_the_newest_is_filled_up_with_older_ones() -> None:
    """Whole holdouts, the newest first, until there are enough."""
    evidence = Evidence(exam(50, task=5), tuple(exam(60, task=task) for task in (4, 3, 2)))
    (newest, earlier) = judge(evidence, pool_instances=150).checks

    assert (170, 180) == (newest.num, earlier.num)


def test_it_is_not_filled_up_from_before_a_drift() -> None:
    """What was true then would dilute what is true now."""
    evidence = Evidence(exam(50, task=5), tuple(exam(60, task=task) for task in (4, 3, 2)))

    assert 110 == judge(evidence, pool_from=4).checks[0].num
    assert 50 == judge(evidence, pool_from=5).checks[0].num


def test_a_class_that_is_lost_fails_although_the_whole_is_better() -> None:
    """An average hides a rare class."""
    labels = np.array([0] * 950 + [1] * 50)
    current = np.array([True] * 850 + [False] * 100 + [True] * 50)
    candidate = np.array([True] * 950 + [False] * 30 + [True] * 20)
    verdict = judge(Evidence(Exam(1, labels, candidate, current, None)))

    assert verdict.is_better
    assert ["class dog"] == [check.holdout for check in verdict.failed]
    assert "failed" == verdict.result


@pytest.mark.parametrize("num", [5, 500])
def test_every_figure_of_a_check_is_told(num: int) -> None:
    """Counts and bounds, so that a verdict can be computed again by hand."""
    (check,) = judge(Evidence(exam(num, won=2, lost=1))).checks

    assert (num, 2, 1, 0.02) == (check.num, check.won, check.lost, check.allowance)
    assert check.lower < 1 / num < check.upper
    assert isinstance(check, Check)
