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


def grown(num: int, *, right: int, num_old: int = 0, lost: int = 0) -> Exam:
    """Return a holdout with instances of a new class, of which the candidate gets some right.

    The served version cannot know it; of the old ones the candidate loses some.
    """
    candidate = np.ones(num_old + num, dtype=np.bool_)
    current = np.ones(num_old + num, dtype=np.bool_)
    candidate[:lost] = False
    candidate[num_old + right :] = False
    current[num_old:] = False
    known = np.arange(num_old + num) < num_old
    labels = np.where(known, np.arange(num_old + num) % 2, 2)
    return Exam(1, labels, candidate, current, None, known, known)


def judge_grown(evidence: Evidence, **settings: float) -> Verdict:
    """Judge a candidate that knows one class more."""
    return Gate(GateConfig(**settings), (*CLASSES, "owl")).judge(evidence)  # type: ignore[arg-type]


def test_a_new_class_hides_no_forgetting() -> None:
    """Three hundred of it right, thirty of 300 old ones lost: held."""
    verdict = judge_grown(Evidence(grown(300, right=300, num_old=300, lost=30)))

    assert {("newest", "current"): "failed", ("new", "current"): "passed"} == results(verdict)
    assert "failed" == verdict.result


def test_old_classes_do_not_hide_that_a_new_one_was_not_learned() -> None:
    """Nothing lost of the old, and the new one is always taken for another: held."""
    verdict = judge_grown(Evidence(grown(40, right=0, num_old=300)))

    assert ["new"] == [check.holdout for check in verdict.failed]


def test_a_learned_class_is_a_gain() -> None:
    """Few old instances leave forgetting open, but it is not measured, and the new one is sure."""
    verdict = judge_grown(Evidence(grown(10, right=9, num_old=20)))

    assert {("newest", "current"): "undecided", ("new", "current"): "passed"} == results(verdict)
    assert verdict.is_better
    assert "passed" == verdict.result


def test_few_instances_of_a_new_class_are_undecided() -> None:
    """One of one could be chance."""
    assert "undecided" == judge_grown(Evidence(grown(1, right=1))).result


def test_a_holdout_of_new_classes_alone_compares_nothing_else() -> None:
    """There is nobody to compare with: no check divides by no instances."""
    verdict = judge_grown(Evidence(grown(30, right=30)))

    assert {("new", "current"): "passed"} == results(verdict)
    assert "passed" == verdict.result


def test_what_a_candidate_does_not_know_counts_nowhere() -> None:
    """A holdout from before a rollback may have a class that went with it."""
    num = 200
    known = np.arange(num) >= 50
    labels = np.where(known, 0, -1)
    right = np.ones(num, dtype=np.bool_)
    exam = Exam(1, labels, known.copy(), right, None, known, known)
    verdict = judge_grown(Evidence(exam))

    assert {("newest", "current"): "passed"} == results(verdict)
    assert [150] == [check.num for check in verdict.checks]
