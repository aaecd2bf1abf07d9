"""What is to become of a learned task, with the figures that say how it did."""

from collections.abc import Mapping
from dataclasses import dataclass

from teacherd.daemon.entries import Outcome
from teacherd.daemon.holdouts import BASE
from teacherd.daemon.paired_test import Answers
from teacherd.models.evaluation import Evaluation
from teacherd.models.task_report import TaskReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is to become of a learned task; nothing of it has happened yet."""

    outcome: Outcome
    """Without version and sha256, which an accepted one gets from its folder."""
    report: TaskReport
    student_accuracy: Mapping[str, float]
    """By evaluation set."""
    evaluations: Mapping[str, Evaluation]
    """Of the candidate, by evaluation set; `holdouts`: on those of tasks together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Accuracies by evaluation set, and what the candidate got right of each task's holdout."""

    base: Mapping[str, float]
    candidate: Mapping[str, float]
    student: Mapping[str, float]
    holdouts: Mapping[int, Answers]


def figures_of(
    report: TaskReport, measured: Measured, *, point: float, newest_event_ms: int
) -> dict[str, float]:
    """Return an outcome's figures, by name (docs/metrics.md).

    Args:
        report: Of the whole task.
        measured: The candidate, at the point that was taken.
        point: How far from the head to the consolidated teacher the candidate lies.
        newest_event_ms: Event time of the newest instance learned.
    """
    figures = {
        "outer_ratio": report.outer_share,
        "retain": 1 - (1 - report.retain) * point,
        "newest_event_ms": float(newest_event_ms),
    }
    figures |= {
        f"holdout.{'base' if task == BASE else task}": float(answers.mean())
        for task, answers in measured.holdouts.items()
    }
    figures |= {f"loss.{name}": value for name, value in report.losses.items()}
    candidate = measured.candidate
    figures |= {f"accuracy.{name}": value for name, value in candidate.items()}
    figures |= {f"student_accuracy.{name}": value for name, value in measured.student.items()}
    figures |= {
        f"forgetting.{name}": measured.base[name] - value for name, value in candidate.items()
    }
    return figures
