"""What the demo found: figures for programs and a table for people; the plot is beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from teacherd.daemon.demo_plot import Curve, PlotFacts, draw_plot

Accuracies = Mapping[str, float]
"""Accuracy, 0 to 1, by evaluation set: `base`, `plain` and `drifted`."""

SUMMARY_NAME = "summary.json"
PLOT_NAME = "accuracy.png"
_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What was seen of the running daemon at one moment."""

    seconds: float
    """Since the stream began."""
    instances: int
    """Consumed so far."""
    tasks: int
    """Decided so far."""
    version: int
    """Of the teacher that is served."""
    teacher: Accuracies
    student: Accuracies
    """Empty until the first task is decided."""
    outer_ratio: float | None
    """Share of the newest task that the teacher got wrong before; None before the first."""
    freshness_seconds: float | None
    """Age of the newest instance that the served teacher learned; None before the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoResult:
    """All that the demo measured."""

    dataset: str
    drift: str
    """In words, such as `rotated by 20 degrees`."""
    drift_at: int
    """Place in the stream of the first drifted instance."""
    task_instances: int
    seed: int
    seconds: float
    """From the first produced instance to the last decided task."""
    base: Accuracies
    """Of version 0."""
    samples: Sequence[Sample]
    """In order of time; the last one is the end."""
    fine_tuning: Sequence[Accuracies]
    """Of plain fine-tuning on the same stream, after each task."""
    versions: int
    """Served one after the other, version 0 included, as far as they were seen."""
    num_classes: tuple[int, int]
    """Of the base model, and of the last version."""
    predictions: int
    failed_predictions: int
    swaps: int
    """Of the predicting process, from one served teacher to the next."""

    @property
    def has_grown(self) -> bool:
        """Whether classes came, in place of a drift."""
        return self.num_classes[0] != self.num_classes[1]


def summarise(result: DemoResult) -> dict[str, Any]:
    """Return the figures under the names that programs rely on.

    Accuracies without further words are on the drifted held-out set, where the stream ended.
    Ratios are 0 to 1. Forgetting is measured on the base model's own training data: the accuracy of
    version 0 less that of the model (method.md, 1).
    """
    last, base, rival = result.samples[-1], result.base, result.fine_tuning[-1]
    figures: dict[str, Any] = {
        "dataset": result.dataset,
        "drift": result.drift,
        "seed": result.seed,
        "base_accuracy": base["drifted"],
        "teacher_accuracy": last.teacher["drifted"],
        "student_accuracy": last.student["drifted"],
        "fine_tuning_accuracy": rival["drifted"],
        "performance_promotion": last.teacher["drifted"] - base["drifted"],
        "forgetting": base["base"] - last.teacher["base"],
        "fine_tuning_forgetting": base["base"] - rival["base"],
        "plain_base_accuracy": base["plain"],
        "plain_teacher_accuracy": last.teacher["plain"],
        "plain_student_accuracy": last.student["plain"],
        "plain_fine_tuning_accuracy": rival["plain"],
        "instances_consumed": last.instances,
        "task_instances": result.task_instances,
        "tasks": last.tasks,
        "versions": result.versions,
        "swaps": result.swaps,
        "predictions": result.predictions,
        "failed_predictions": result.failed_predictions,
        "base_classes": result.num_classes[0],
        "classes": result.num_classes[1],
        "outer_ratio": last.outer_ratio,
        "freshness_seconds": last.freshness_seconds,
        "seconds": result.seconds,
    }
    return {
        name: round(value, _DIGITS) if isinstance(value, float) else value
        for name, value in figures.items()
    }


def build_table(result: DemoResult) -> RenderableType:
    """Return the models side by side: what each gained from the stream and what it forgot."""
    last = result.samples[-1]
    rows: list[tuple[str, Accuracies]] = [
        ("teacher", last.teacher),
        ("student", last.student),
        ("plain fine-tuning", result.fine_tuning[-1]),
        ("base model, untouched", result.base),
    ]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("model")
    for name in ("drifted", "plain", "forgetting"):
        table.add_column(name, justify="right")
    for name, accuracy in rows:
        forgetting = 100 * (result.base["base"] - accuracy["base"])
        table.add_row(
            name,
            f"{accuracy['drifted']:.1%}",
            f"{accuracy['plain']:.1%}",
            "" if accuracy is result.base else f"{forgetting:+.1f}",
            style="bold" if accuracy is last.teacher else None,
        )
    sets = "drifted and as they were before"
    if result.has_grown:
        sets = "of all classes (drifted) and of the first ones (plain)"
    return Group(
        Text(
            f"{result.dataset}, {result.drift} halfway: after {last.tasks} tasks of "
            f"{result.task_instances} instances",
            style="bold",
        ),
        "",
        table,
        "",
        Text(
            f"Accuracy on held-out instances, {sets}.\n"
            "Forgetting: accuracy lost on the base model's own training data, in points.\n"
            f"{result.predictions} batches predicted meanwhile, {result.failed_predictions} "
            f"failed; {result.swaps} swaps to a newer teacher, no restart."
        ),
    )


def write_report(result: DemoResult, out: Path) -> dict[str, Any]:
    """Write the figures and the plot into a folder, and return the figures."""
    summary = summarise(result)
    (out / SUMMARY_NAME).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    draw_plot(_curves(result), facts=_plot_facts(result), path=out / PLOT_NAME)
    return summary


def _curves(result: DemoResult) -> list[Curve]:
    """Return each model's accuracies after 0, 1, 2, ... tasks."""
    # Of the samples between two tasks the last one is the task's: student and teacher are measured.
    by_tasks = {sample.tasks: sample for sample in result.samples}
    places = [tasks * result.task_instances for tasks in sorted(by_tasks)]
    ordered = [by_tasks[tasks] for tasks in sorted(by_tasks)]
    rival = [result.base, *result.fine_tuning]
    return [
        Curve("base model", places, [result.base for _ in places]),
        Curve(
            "plain fine-tuning",
            [place * result.task_instances for place in range(len(rival))],
            rival,
        ),
        Curve("student", places, [sample.student or result.base for sample in ordered]),
        Curve("teacher", places, [sample.teacher for sample in ordered]),
    ]


def _plot_facts(result: DemoResult) -> PlotFacts:
    last = result.samples[-1]
    return PlotFacts(
        title=f"{result.dataset}: learning from a stream that is {result.drift} halfway",
        drifted="of all classes" if result.has_grown else result.drift,
        plain="of the first classes" if result.has_grown else "as they were before",
        drift=result.drift,
        drift_at=result.drift_at,
        task_marks=[number * result.task_instances for number in range(1, last.tasks + 1)],
    )
