"""Tests of the benchmark of new classes: how it deals classes out, that it goes on, its figures."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from published_digits import publish_digits

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
METHODS = "joint,lwf,ours_memory"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder in which the digits stand in for Fashion-MNIST."""
    return publish_digits(tmp_path)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Return the benchmark's modules by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    names = ("course_data", "cil_data", "cil_report", "cil_network", "cil_scale")
    return {name: pytest.importorskip(name) for name in names}


def run(data: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark on digits; return the JSON of its last line."""
    command = [sys.executable, str(BENCHMARKS / "cil.py"), "--data", str(data)]
    runs = ["--runs", str(data / "runs"), "--orders", "1", "--set", "epochs=2"]
    done = subprocess.run([*command, *runs, *arguments], capture_output=True, text=True, check=True)
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def figures(data: Path, methods: str) -> dict[str, Any]:
    """Run methods and return what each came to."""
    found = run(data, "--methods", methods)["methods"]
    return {name.partition("@")[0]: each for name, each in found.items()}


@pytest.mark.parametrize("split", ["test", "validation"])
def test_an_order_deals_every_class_once(
    data: Path, modules: dict[str, ModuleType], split: str
) -> None:
    """Each part has the instances of its classes alone, labels are places in the order."""
    corpus = modules["course_data"].load_corpus("fashion_mnist", data)
    deal = modules["cil_data"].deal_classes
    course = deal(corpus, order=3, split=split, increments=(4, 3, 2), per_class=50)

    assert [{0, 1, 2, 3}, {4, 5, 6}, {7, 8}] == [set(part.labels.tolist()) for part in course.parts]
    assert [200, 150, 100] == [len(part) for part in course.parts]
    assert set(range(9)) == set(course.test.labels.tolist())
    assert {4, 5, 6} == set(course.test_of(1).labels.tolist())
    # A label's images are those of the class whose name stands at its place.
    name = course.test.classes[7]
    place = corpus.test.classes.index(name)
    if split == "test":
        expected = corpus.test.inputs[corpus.test.labels == place]
        assert np.array_equal(expected, course.test_of(2).inputs[course.test_of(2).labels == 7])


def test_orders_differ_and_repeat(data: Path, modules: dict[str, ModuleType]) -> None:
    """The same seed gives the same course again, another one another."""
    corpus = modules["course_data"].load_corpus("fashion_mnist", data)
    courses = [
        modules["cil_data"].deal_classes(
            corpus, order=order, split="test", increments=(4, 2), per_class=20
        )
        for order in (1, 1, 2)
    ]

    assert np.array_equal(courses[0].parts[1].inputs, courses[1].parts[1].inputs)
    assert courses[0].test.classes == courses[1].test.classes != courses[2].test.classes


def test_figures_are_those_of_their_formulas(modules: dict[str, ModuleType]) -> None:
    """Accuracies weighed by test instances; forgetting from the best that each ever was."""
    run = {
        "method": "ours",
        "accuracies": [[0.8], [0.9, 0.5], [0.6, 0.4, 1.0]],
        "test_sizes": [20, 10, 10],
        "seconds": 1.0,
    }
    figures = modules["cil_report"].figures_of(run)
    seen = [80.0, 100 * (0.9 * 20 + 5) / 30, 100 * (12 + 4 + 10) / 40]

    assert seen[-1] == pytest.approx(figures["last"])
    assert sum(seen) / 3 == pytest.approx(figures["average"])
    assert 100 * ((0.9 - 0.6) + (0.5 - 0.4)) / 2 == pytest.approx(figures["forgetting"])


def test_methods_are_held_against_ours_order_by_order(modules: dict[str, ModuleType]) -> None:
    """Who has a memory against ours with one; not where ours was not run on all its orders."""

    def runs(method: str, *lasts: float) -> dict[int, dict[str, Any]]:
        return {
            order: {
                "method": method,
                "accuracies": [[0.9], [last, last]],
                "test_sizes": [10, 10],
                "seconds": 1.0,
            }
            for order, last in enumerate(lasts)
        }

    found = {
        "ours": runs("ours", 0.5, 0.4),
        "lwf": runs("lwf", 0.4, 0.38),
        "ours_memory": runs("ours_memory", 0.8),
        "replay": runs("replay", 0.7),
        "without_dust": runs("without_dust", 0.8, 0.8),
    }
    everything = [(order, name, run) for name, its in found.items() for order, run in its.items()]
    made = modules["cil_report"].summarise(SimpleNamespace(all=lambda: everything))["methods"]

    behind = {name: each["behind"]["mean"] for name, each in made.items() if "behind" in each}
    assert {"lwf": pytest.approx(6), "replay": pytest.approx(10)} == behind


def test_the_large_network_is_that_of_the_paper(modules: dict[str, ModuleType]) -> None:
    """32 layers: 31 convolutions and the head, 0.46 million weights for ten classes."""
    network = modules["cil_network"].ResNet32(input_shape=(3, 32, 32), num_classes=10)
    kinds = [type(each).__name__ for each in network.modules()]

    assert (31, 1) == (kinds.count("Conv2d"), kinds.count("Linear"))
    assert 0.464e6 == pytest.approx(sum(each.numel() for each in network.parameters()), rel=0.01)
    assert (2, 10) == network(torch.zeros(2, 3, 32, 32)).shape


def test_large_scales_are_those_of_the_literature(modules: dict[str, ModuleType]) -> None:
    """100 classes in 10 and in 20 increments, from 50 and from none; 2,000 images remembered."""
    scales = modules["cil_scale"].SCALES
    large = {name: each for name, each in scales.items() if name.startswith("gpu")}
    shapes = {name: (each.increments[0], len(each.increments)) for name, each in large.items()}
    memory = large["gpu"].memory

    assert all(sum(each.increments) == 100 for each in large.values())
    assert {"gpu": (50, 11), "gpu-50x20": (50, 21), "gpu-0x10": (10, 10), "gpu-0x20": (5, 20)} == (
        shapes
    )
    assert 20 == memory.capacity(num_classes=100, instance_bytes=3 * 32 * 32)


def test_every_kind_of_method_runs_and_a_broken_off_run_ends_as_one_that_was_not(
    data: Path,
) -> None:
    """All figures are there; what is done is not done again, what was cut off goes on."""
    whole = figures(data, METHODS)
    again = figures(data, METHODS)
    for finished in (data / "runs").rglob("ours_memory*.json"):
        finished.unlink()
    cut = run(data, "--methods", "ours_memory", "--minutes", "0")
    resumed = figures(data, METHODS)

    assert set(METHODS.split(",")) == set(whole)
    assert whole == again
    assert not cut["is_complete"]
    for name in ("last", "average", "forgetting"):
        assert whole["ours_memory"][name] == resumed["ours_memory"][name]
    assert "average" not in whole["joint"]
