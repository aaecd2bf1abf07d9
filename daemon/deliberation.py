"""From the gate's verdicts to a decision: which point, what of drift, what of a held head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from teacherd.daemon.entries import Arrivals
from teacherd.daemon.gate import Evidence, Gate, GateConfig, Verdict
from teacherd.daemon.standing import Standing, contradicts

_NUM_SUSPICIONS = 2
"""Suspicious tasks in a row after which a contradiction is taken for a drift of the concept."""
_MAX_HELD_FACTOR = 2
"""Contradictions in a row, in units of max_held, that are a drift without any suspicion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """What the gate decides about a task; the outcome's fields of the same names."""

    verdict: Verdict
    point: float
    is_best: bool = False
    drift: Literal["none", "suspected", "confirmed"] = "none"
    retired: tuple[int, ...] = ()
    is_base_retired: bool = False
    head_returns: bool = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say in words what speaks against publishing it."""
        return tuple(
            f"{check.holdout}: {check.won} won and {check.lost} lost of {check.num} against "
            f"{check.against}; the difference is {check.lower:+.3f} to {check.upper:+.3f}, "
            f"{-check.allowance:+.3f} is allowed"
            for check in self.verdict.checks
            if self.verdict.result != "passed" and check.result == self.verdict.result
        )


class Deliberation:
    """Takes the furthest point that passes; retires what a drift contradicts.

    Args:
        classes: Names, in the order of the labels.
    """

    def __init__(self, config: GateConfig, classes: Sequence[str]) -> None:
        self._config = config
        self._gate = Gate(config, classes)

    def rule(
        self,
        standing: Standing,
        *,
        task: int,
        arrivals: Arrivals,
        alarm: int | None = None,
        is_head_current: bool,
        evidence_at: Callable[[float], Evidence],
    ) -> Ruling:
        """Decide about a candidate.

        Args:
            standing: Before this task's outcome.
            task: Its number.
            arrivals: How its instances were answered before they were learned.
            alarm: The task, this one or shortly before it, that alarmed a drift detector of the
                concept; it confirms at once what the gate would need several tasks for.
            is_head_current: The task started from the served version.
            evidence_at: Answers with the candidate at a point of the way to it.
        """
        is_suspicious = standing.is_suspicious(arrivals, excess=self._config.drift_excess)
        is_suspicious |= alarm is not None
        onset = standing.onset
        if onset is None and is_suspicious:
            onset = alarm or task
        known = {point: evidence_at(point) for point in self._config.grid[:1]}

        def at(point: float) -> Evidence:
            if point not in known:
                known[point] = evidence_at(point)
            return known[point]

        ruling = self._best_point(at, onset or 0)
        ruling = replace(ruling, drift="suspected" if is_suspicious else "none")
        num_suspicions = 0
        if alarm is not None:
            num_suspicions = _NUM_SUSPICIONS
        elif is_suspicious:
            num_suspicions = standing.suspicions + 1
        if self._is_drift(standing, ruling.verdict, num_suspicions):
            ruling = self._retire(ruling, at, onset or task)
        if ruling.verdict.result == "failed":
            is_last_straw = standing.held_in_a_row + 1 >= self._config.max_held
            return replace(ruling, head_returns=is_last_straw and not is_head_current)
        evidence = at(ruling.point).without(ruling.retired, base=ruling.is_base_retired)
        is_better = self._gate.is_surely_better(evidence, "best")
        # The best so far must know what is known: else new classes would never be compared with it.
        is_better |= ruling.verdict.result == "passed" and evidence.has_new_classes
        return replace(ruling, is_best=is_better or ruling.drift == "confirmed")

    def _best_point(self, at: Callable[[float], Evidence], pool_from: int) -> Ruling:
        """Return the furthest point that passes, else the furthest that does not fail."""
        rulings = []
        for point in self._config.grid:
            verdict = self._gate.judge(at(point), pool_from=pool_from)
            rulings.append(Ruling(verdict=verdict, point=point))
            if verdict.result == "passed":
                return rulings[-1]
        undecided = [each for each in rulings if each.verdict.result == "undecided"]
        return undecided[0] if undecided else rulings[0]

    def _is_drift(self, standing: Standing, verdict: Verdict, num_suspicions: int) -> bool:
        """Tell whether that which holds the candidate is a world that is no more."""
        if verdict.result != "failed" or not contradicts(verdict.checks):
            return False
        is_confirmed = num_suspicions >= _NUM_SUSPICIONS
        num_contradictions = standing.contradictions + 1
        return is_confirmed or num_contradictions >= _MAX_HELD_FACTOR * self._config.max_held

    def _retire(self, ruling: Ruling, at: Callable[[float], Evidence], onset: int) -> Ruling:
        """Judge again without the holdouts from before the drift, if they contradict."""
        names = {check.holdout for check in ruling.verdict.failed}
        retires_base = "base" in names
        retired: tuple[int, ...] = ()
        if names != {"base"}:
            earlier = at(self._config.grid[0]).earlier
            retired = tuple(sorted(exam.task for exam in earlier if exam.task < onset))
        again = self._best_point(lambda point: at(point).without(retired, base=retires_base), onset)
        return replace(again, drift="confirmed", retired=retired, is_base_retired=retires_base)
