"""Tests of the demo's figures, table and plot."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from teacherd.daemon.demo_report import DemoResult, Sample, build_table, summarise, write_report

BASE = {"base": 1.0, "plain": 0.98, "drifted": 0.7}
TEACHER = {"base": 0.99, "plain": 0.97, "drifted": 0.95}
STUDENT = {"base": 0.96, "plain": 0.94, "drifted": 0.96}
RIVAL = {"base": 0.92, "plain": 0.9, "drifted": 0.93}


def sample(tasks: int, **changes: object) -> Sample:
    """Make a sample of the running daemon after some tasks."""
    at_start = Sample(
        seconds=2.0 * tasks,
        instances=10 * tasks,
        tasks=tasks,
        version=tasks,
        teacher=BASE,
        student={},
        outer_ratio=None,
        freshness_seconds=None,
    )
    return replace(at_start, **changes)


@pytest.fixture
def result() -> DemoResult:
    """Make a demo of two tasks that went well."""
    return DemoResult(
        dataset="digits",
        drift="rotated by 20 degrees",
        drift_at=10,
        task_instances=10,
        seed=4,
        seconds=12.5,
        base=BASE,
        samples=[
            sample(0),
            sample(1, instances=17, student=STUDENT),
            sample(2, teacher=TEACHER, student=STUDENT, outer_ratio=0.25, freshness_seconds=1.5),
        ],
        fine_tuning=[BASE, RIVAL],
        versions=3,
        num_classes=(10, 10),
        predictions=5000,
        failed_predictions=0,
        swaps=2,
    )


def test_the_summary_has_every_promised_figure(result: DemoResult) -> None:
    """Programs rely on these: accuracies on the drifted set, forgetting on the base's data."""
    expected = {
        "base_accuracy": 0.7,
        "teacher_accuracy": 0.95,
        "student_accuracy": 0.96,
        "fine_tuning_accuracy": 0.93,
        "performance_promotion": 0.25,
        "forgetting": 0.01,
        "fine_tuning_forgetting": 0.08,
        "instances_consumed": 20,
        "tasks": 2,
        "versions": 3,
        "swaps": 2,
        "failed_predictions": 0,
    }

    assert expected == {name: summarise(result)[name] for name in expected}


def test_the_summary_is_written_as_it_is_returned(result: DemoResult, tmp_path: Path) -> None:
    """What stands in summary.json is what the caller gets, in plain JSON."""
    summary = write_report(result, tmp_path)

    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary == summarise(result)


def test_the_plot_is_an_image_of_the_run(result: DemoResult, tmp_path: Path) -> None:
    """The plot is a PNG, and another run gives another one."""
    write_report(result, tmp_path)
    with Image.open(tmp_path / "accuracy.png") as image:
        first = image.convert("RGB").tobytes()
        form, width = image.format, image.width

    write_report(replace(result, fine_tuning=[BASE, STUDENT]), tmp_path)
    with Image.open(tmp_path / "accuracy.png") as image:
        second = image.convert("RGB").tobytes()

    assert form == "PNG"
    assert width >= 1000
    assert first != second


def test_the_table_sets_the_models_side_by_side(result: DemoResult) -> None:
    """Each model has its accuracies in percent and its forgetting in points."""
    shown = io.StringIO()
    Console(width=120, file=shown).print(build_table(result))
    lines = [
        re.split(r"\s{2,}", line.strip()) for line in shown.getvalue().splitlines() if "%" in line
    ]

    expected = [
        ["teacher", "95.0%", "97.0%", "+1.0"],
        ["student", "96.0%", "94.0%", "+4.0"],
        ["plain fine-tuning", "93.0%", "90.0%", "+8.0"],
        ["base model, untouched", "70.0%", "98.0%"],
    ]
    assert expected == lines
    assert "digits, rotated by 20 degrees halfway: after 2 tasks of 10 inst" in shown.getvalue()
    assert "5000 batches predicted meanwhile, 0 failed; 2 swaps" in shown.getvalue()
