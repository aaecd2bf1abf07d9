"""Hears what the holdouts say of a candidate, point by point, until the gate has ruled."""

from collections.abc import Callable

from torch import nn

from teacherd.daemon.deliberation import Deliberation, Ruling
from teacherd.daemon.drift_reader import DriftReader
from teacherd.daemon.entries import Arrivals, Outcome, Plan
from teacherd.daemon.gate import Evidence, GateConfig
from teacherd.daemon.holdouts import Holdouts
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.paired_test import Answers

CandidateAt = Callable[[float], nn.Module]
"""Gives the candidate at a point of the way from the head to the consolidated teacher."""


class Hearing:
    """Brings the evidence before the gate.

    Args:
        lineage: As the entries before the task's outcome make it.
        holdouts: Answer with the candidate.
        drift: Its reading of the task in progress.
    """

    def __init__(
        self, config: GateConfig, *, lineage: Lineage, holdouts: Holdouts, drift: DriftReader
    ) -> None:
        self._config = config
        self._lineage = lineage
        self._holdouts = holdouts
        self._drift = drift

    def hear(
        self, plan: Plan, arrivals: Arrivals, candidate_at: CandidateAt
    ) -> tuple[Outcome, dict[int, Answers]]:
        """Return what becomes of a learned task, and its answers at the point that was taken.

        Args:
            plan: Of the task.
            arrivals: How its instances were answered before they were learned.
            candidate_at: Of the consolidated teacher.
        """
        lineage, task = self._lineage, plan.task
        tasks = self._holdouts.tasks_in_use(lineage, task)
        classes = lineage.classes + plan.new_classes
        answers: dict[float, dict[int, Answers]] = {}

        def evidence_at(point: float) -> Evidence:
            answers[point] = self._holdouts.answer(candidate_at(point), classes, tasks)
            return self._holdouts.evidence(lineage, task, answers[point], classes)

        ruling = Deliberation(self._config, classes).rule(
            lineage.standing,
            task=task,
            arrivals=arrivals,
            alarm=self._drift.concept_alarm(task),
            is_head_current=plan.head == lineage.current,
            evidence_at=evidence_at,
        )
        return _outcome_of(ruling, task, arrivals), answers[ruling.point]


def _outcome_of(ruling: Ruling, task: int, arrivals: Arrivals) -> Outcome:
    return Outcome(
        task=task,
        result="held" if ruling.verdict.result == "failed" else "accepted",
        reasons=ruling.reasons,
        should_publish=ruling.verdict.result == "passed",
        gate=ruling.verdict.result,
        checks=ruling.verdict.checks,
        point=ruling.point,
        is_best=ruling.is_best,
        arrivals=arrivals,
        drift=ruling.drift,
        retired=ruling.retired,
        is_base_retired=ruling.is_base_retired,
        head_returns=ruling.head_returns,
    )
