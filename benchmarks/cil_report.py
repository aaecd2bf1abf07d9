"""What the runs of benchmarks/cil.py come to: figures with confidence, and a table."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cil_methods import ALL_METHODS
from course_report import MethodNames, cell_of, means_of, orders_of, runs_by_method
from course_runs import Runs

FIGURES = ("last", "behind", "average", "forgetting", "seconds")
NAMES = MethodNames(ALL_METHODS)


def summarise(runs: Runs) -> dict[str, Any]:
    """Return the figures of all finished runs, method by method, in percentage points.

    With R[i, j] the accuracy on increment j's test instances after increment i, among all classes
    seen by then, and A_i that on all of them:

        last        A_n
        behind      by how much it is below that of ours, with a memory for who has one: compared
                    order by order, since the orders differ more than the methods do
        average     mean of A_0 ... A_n, the average incremental accuracy
        forgetting  mean over j < n of max_i R[i, j] - R[n, j]
    """
    by_method = runs_by_method(runs)
    summary: dict[str, Any] = {"methods": {}, "orders": orders_of(by_method)}
    figures = {
        name: {order: figures_of(run) for order, run in its.items()}
        for name, its in by_method.items()
    }
    for name in NAMES.sort(by_method):
        samples = _compared(name, figures)
        summary["methods"][name] = {"orders": sorted(samples), **means_of(samples, FIGURES)}
    return summary


def figures_of(run: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of one run; joint training has the last accuracy alone."""
    rows: list[list[float]] = run["accuracies"]
    sizes: list[int] = run["test_sizes"]
    seen = [
        100 * sum(map(float.__mul__, row, map(float, sizes))) / sum(sizes[: len(row)])
        for row in rows
    ]
    figures = {"last": seen[-1], "seconds": run["seconds"]}
    if run["method"] == "joint":
        return figures
    lost = [max(row[j] for row in rows[j:]) - rows[-1][j] for j in range(len(rows) - 1)]
    return {
        **figures,
        "average": statistics.mean(seen),
        "forgetting": 100 * statistics.mean(lost),
    }


def _compared(
    name: str, figures: Mapping[str, Mapping[int, dict[str, float]]]
) -> dict[int, dict[str, float]]:
    """Return a method's figures by order, with `behind` where ours has every order of its."""
    method = ALL_METHODS.get(name.partition("@")[0])
    ours = "ours_memory" if method is not None and method.has_memory else "ours"
    reference, samples = figures.get(ours, {}), figures[name]
    if method is None or name in (ours, "joint") or not samples.keys() <= reference.keys():
        return dict(samples)
    return {
        order: {**each, "behind": reference[order]["last"] - each["last"]}
        for order, each in samples.items()
    }


def write_report(summary: Mapping[str, Any], folder: Path) -> None:
    """Write `cil-SCALE.json` and `.md` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"cil-{summary['scale']}"
    stem.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(_markdown(summary), encoding="utf-8")


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [
        f"# {summary['course']}, {summary['split']} split",
        "",
        f"`{summary['command']}`",
        "",
        "Percentage points, mean and 95 % confidence interval of the orders.",
        "",
        "| method | last | behind ours | average | forgetting | seconds | orders |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in summary["methods"].items():
        cells = [cell_of(figures.get(figure), digits=1) for figure in FIGURES]
        lines.append(f"| {NAMES.word(name)} | {' | '.join(cells)} | {len(figures['orders'])} |")
    return "\n".join([*lines, ""])
