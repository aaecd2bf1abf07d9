"""Tests of the learning benchmark: how it deals data out, that it goes on, what it reports."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from published_digits import publish_digits

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
METHODS = "joint,fine_tuning,early_stopping,fine_tuning_ema,lwf,ewc,replay,ours,guarded"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder in which the digits stand in for Fashion-MNIST."""
    return publish_digits(tmp_path)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Return the benchmark's modules by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    names = ("course_benchmark", "course_data", "iil_data", "iil")
    return {name: pytest.importorskip(name) for name in names}


def run(data: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark on 400 digits and two tasks of 50; return the JSON of its last line."""
    command = [sys.executable, str(BENCHMARKS / "iil.py"), "--data", str(data)]
    sizes = ["--num-base", "400", "--num-tasks", "2", "--task-instances", "50"]
    runs = ["--runs", str(data / "runs"), "--orders", "1", "--set", "epochs=3"]
    done = subprocess.run(
        [*command, *sizes, *runs, *arguments], capture_output=True, text=True, check=True
    )
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@pytest.mark.parametrize("split", ["test", "validation"])
def test_an_order_deals_every_instance_once(
    data: Path, modules: dict[str, ModuleType], split: str
) -> None:
    """Base, tasks and what is measured with share no instance; the base has all classes evenly."""
    corpus = modules["course_data"].load_corpus("fashion_mnist", data)
    unlike = np.arange(len(corpus.train))
    corpus.train.inputs[:, 0, 0, 0] = unlike % 256
    corpus.train.inputs[:, 0, 0, 1] = unlike // 256
    course = modules["iil_data"].deal(
        corpus, order=3, split=split, num_base=400, num_tasks=4, task_instances=50
    )
    parts = [course.base, *course.tasks, *([course.test] if split == "validation" else [])]
    pixels = np.concatenate([part.inputs[:, 0, 0, :2] for part in parts]).astype(int)
    places = pixels[:, 0] + 256 * pixels[:, 1]

    assert len(places) == len(set(places.tolist()))
    assert [400, 50, 50, 50, 50] == [len(part) for part in (course.base, *course.tasks)]
    assert np.ptp(np.bincount(course.base.labels)) <= 8
    assert (course.test is corpus.test) == (split == "test")


def test_orders_differ_and_repeat(data: Path, modules: dict[str, ModuleType]) -> None:
    """The same seed gives the same course again, another one another."""
    corpus = modules["course_data"].load_corpus("fashion_mnist", data)
    courses = [
        modules["iil_data"].deal(
            corpus, order=order, split="test", num_base=400, num_tasks=2, task_instances=50
        )
        for order in (1, 1, 2)
    ]
    one, again, other = (course.tasks[0].labels.tolist() for course in courses)

    assert one == again
    assert one != other


def test_too_little_data_is_told_with_the_options(
    data: Path, modules: dict[str, ModuleType]
) -> None:
    """The error names the sizes that were asked for and what there is."""
    corpus = modules["course_data"].load_corpus("fashion_mnist", data)

    with pytest.raises(ValueError, match=r"--num-tasks.*1000 x 50.*1400"):
        modules["iil_data"].deal(
            corpus, order=1, split="test", num_base=400, num_tasks=1000, task_instances=50
        )


@pytest.mark.slow
def test_all_methods_run_report_and_are_not_run_again(data: Path) -> None:
    """Figures for every method, the limit included; a second call reads what the first did."""
    first = run(data, "--methods", METHODS, "--report", str(data / "report"))
    files = {path: path.stat().st_mtime_ns for path in (data / "runs").rglob("*.json")}
    second = run(data, "--methods", METHODS)

    assert [f"{m}@epochs=3" if m != "joint" else m for m in METHODS.split(",")] == list(
        first["methods"]
    )
    for figures in first["methods"].values():
        assert {"pp", "f", "g", "seconds"} <= set(figures)
    assert 1.0 == first["methods"]["joint"]["g"]["mean"]
    assert first["methods"] == second["methods"]
    assert files == {path: path.stat().st_mtime_ns for path in files}
    assert {"iil-cpu.json", "iil-cpu.md", "iil-cpu.png"} == {
        path.name for path in (data / "report").iterdir()
    }


@pytest.mark.parametrize(
    "method", ["ours", "ewc", "replay", "guarded", "idea_batch_norm", "idea_line_search"]
)
def test_a_course_that_was_cut_off_ends_as_one_that_was_not(
    data: Path, modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It goes on after its last finished task, with the teacher and the memory that it had."""
    iil, out_of_time = modules["iil"], modules["course_benchmark"].OutOfTime
    tasks: list[Any] = []
    for folder, most in (("whole", 9), ("broken", 1), ("broken", 9)):
        arguments = iil.parse(
            [
                "--data",
                str(data),
                "--num-base",
                "400",
                "--num-tasks",
                "3",
                "--task-instances",
                "40",
                "--set",
                "epochs=2",
                "--runs",
                str(data / folder),
            ]
        )
        scale = iil.scale_of(arguments)
        benchmark = iil.Benchmark(
            arguments, scale, modules["course_data"].load_corpus(scale.dataset, arguments.data)
        )
        checks = iter([False] * (most + 1) + [True])

        def check(checks: Iterator[bool] = checks) -> None:
            if next(checks):
                raise out_of_time

        monkeypatch.setattr(benchmark, "_check_time", check)
        try:
            benchmark.run(0, [method])
        except out_of_time:
            assert benchmark.runs.load(0, f"{method}@epochs=2") is None
            continue
        tasks.append(benchmark.runs.load(0, f"{method}@epochs=2")["tasks"])

    assert tasks[0] == tasks[1]
