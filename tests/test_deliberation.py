"""Five hundred tasks in a row: never downhill, never stuck. Answers are drawn, nothing learns."""

import numpy as np
import pytest
from simulated_lineage import Accuracy, SimulatedLineage

from teacherd.daemon.gate import GateConfig

NUM_TASKS = 500
SPAN = np.arange(0, 21, 0.25)
"""Concepts, as places on a line: near ones have much in common."""


def constant(value: float) -> Accuracy:
    """Return an accuracy that is the same on everything."""
    return lambda _: value


def step_by(amount: float):  # noqa: ANN201 (what `learn` takes)
    """Return a task that changes the head's accuracy by an amount."""
    return lambda before: lambda point: constant(min(0.97, before(0) + point * amount))


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.004), (-0.002, 0.004), (-0.02, 0.01)])
def test_without_a_real_gain_nothing_walks_downhill(mean: float, deviation: float) -> None:
    """However many candidates are a little worse: allowances and luck do not add up."""
    rng = np.random.default_rng(1)
    lineage = SimulatedLineage(GateConfig(), constant(0.9), task_instances=2000)
    served, heads = [], []
    for _ in range(NUM_TASKS):
        lineage.learn(step_by(rng.normal(mean, deviation)))
        served.append(lineage.accuracy_of(lineage.current, 0))
        heads.append(lineage.accuracy_of(lineage.head, 0))

    assert min(served) > 0.9 - 0.03
    assert min(heads) > 0.9 - 0.06
    assert served[-1] > 0.9 - 0.03


def test_small_gains_are_served_and_add_up() -> None:
    """A tenth of a point a task cannot be seen in one task, but in many."""
    rng = np.random.default_rng(1)
    lineage = SimulatedLineage(GateConfig(), constant(0.9), task_instances=2000)
    for _ in range(200):
        lineage.learn(step_by(rng.normal(0.001, 0.003)))

    assert lineage.accuracy_of(lineage.current, 0) > 0.94
    assert lineage.num_published > 20


def learn_at(concept: float):  # noqa: ANN201 (what `learn` takes)
    """Return a task that brings a concept nearer and lets those that are far from it go."""
    near = np.exp(-((SPAN - concept) ** 2) / 0.5)

    def learned(before: "Knowledge"):  # noqa: ANN202 (as above)
        target = before.by_concept + 0.5 * near * (0.9 - before.by_concept)
        target -= 0.3 * (1 - near) * (before.by_concept - 0.3)
        gain = target - before.by_concept
        return lambda point: Knowledge(before.by_concept + point * gain, before.concept_of)

    return learned


class Knowledge:
    """An accuracy that differs from concept to concept."""

    def __init__(self, by_concept: np.ndarray, concept_of: Accuracy) -> None:
        self.by_concept = by_concept
        self.concept_of = concept_of

    def __call__(self, task: int) -> float:
        """Return the accuracy on a task's instances."""
        return float(np.interp(self.concept_of(task), SPAN, self.by_concept))


def abrupt(task: int) -> float:
    """Every fifty tasks another concept, which has nothing in common with the one before."""
    return task // 50 * 2.0


def gradual(task: int) -> float:
    """A concept that moves on all the time."""
    return task / 25


@pytest.mark.parametrize(
    ("concept_of", "task_instances", "base_instances", "least"),
    [(abrupt, 2000, 0, 0.85), (abrupt, 200, 2000, 0.8), (gradual, 2000, 2000, 0.7)],
)
def test_no_drift_deadlocks_the_gate(
    concept_of: Accuracy, task_instances: int, base_instances: int, least: float
) -> None:
    """What contradicts the new concept is retired: the served version follows, to the end."""
    start = Knowledge(np.where(SPAN < 1, 0.9, 0.3), concept_of)
    lineage = SimulatedLineage(
        GateConfig(), start, task_instances=task_instances, base_instances=base_instances
    )
    served, held = [], []
    for task in range(1, NUM_TASKS + 1):
        ruling = lineage.learn(learn_at(concept_of(task)))  # type: ignore[arg-type]
        served.append(lineage.accuracy_of(lineage.current, task))
        held.append(ruling.verdict.result == "failed")

    assert np.mean(served) > least
    assert np.mean(served[-50:]) > least - 0.05
    assert not any(all(held[start : start + 8]) for start in range(NUM_TASKS - 8))
    assert (base_instances > 0) == lineage.standing.is_base_retired


@pytest.mark.parametrize("has_detector", [True, False])
def test_an_alarm_of_a_drift_detector_confirms_at_once(has_detector: bool) -> None:
    """Without one the gate needs a second suspicious task, and holds the first."""
    start = Knowledge(np.where(SPAN < 1, 0.9, 0.3), lambda task: 0.0 if task <= 30 else 10.0)
    lineage = SimulatedLineage(GateConfig(), start, task_instances=2000)
    for _ in range(30):
        lineage.learn(learn_at(0.0))  # type: ignore[arg-type]
    alarm = 31 if has_detector else None
    ruling = lineage.learn(learn_at(10.0), alarm=alarm)  # type: ignore[arg-type]

    assert ("confirmed" if has_detector else "suspected") == ruling.drift
    assert ("passed" if has_detector else "failed") == ruling.verdict.result
    assert bool(ruling.retired) is has_detector
    assert all(task < 31 for task in ruling.retired)


def test_an_alarm_retires_nothing_that_does_not_contradict() -> None:
    """A false one costs nothing."""
    lineage = SimulatedLineage(GateConfig(), constant(0.9), task_instances=2000)
    for _ in range(10):
        lineage.learn(step_by(0.0))
    ruling = lineage.learn(step_by(0.0), alarm=11)

    assert ("suspected", (), False) == (ruling.drift, ruling.retired, ruling.is_base_retired)


def test_the_furthest_point_that_passes_is_taken() -> None:
    """A candidate that went too far goes part of the way, not none of it."""
    lineage = SimulatedLineage(GateConfig(), constant(0.8), task_instances=8000)

    def overshoot(before: Accuracy):  # noqa: ANN202 (what `learn` takes)
        gain = {0.25: 0.02, 0.5: 0.05, 0.75: -0.06, 1.0: -0.2}
        return lambda point: constant(before(0) + gain[point])

    ruling = lineage.learn(overshoot)

    assert ("passed", 0.5) == (ruling.verdict.result, ruling.point)


def test_a_head_that_is_held_too_often_goes_back_to_what_is_served() -> None:
    """Undecided steps may have led it astray."""
    config = GateConfig(max_held=3)
    lineage = SimulatedLineage(config, constant(0.9), task_instances=2000)
    lineage.learn(step_by(-0.015))

    assert ("undecided", 1, 0) == (
        lineage.rulings[-1].verdict.result,
        lineage.head,
        lineage.current,
    )

    returns = [lineage.learn(step_by(-0.5)).head_returns for _ in range(3)]

    assert [False, False, True] == returns
    assert 0 == lineage.head
