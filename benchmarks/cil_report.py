"""What the runs of benchmarks/cil.py come to: figures with confidence, and a table."""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cil_methods import ALL_METHODS
from iil_runs import Runs
from scipy import stats

FIGURES = ("last", "average", "forgetting", "seconds")


def summarise(runs: Runs) -> dict[str, Any]:
    """Return the figures of all finished runs, method by method, in percentage points.

    With R[i, j] the accuracy on increment j's test instances after increment i, among all classes
    seen by then, and A_i that on all of them:

        last        A_n
        average     mean of A_0 ... A_n, the average incremental accuracy
        forgetting  mean over j < n of max_i R[i, j] - R[n, j]
    """
    by_method: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for order, name, run in runs.all():
        by_method[name][order] = run
    summary: dict[str, Any] = {
        "methods": {},
        "orders": sorted({order for each in by_method.values() for order in each}),
    }
    for name in sorted(by_method, key=_place):
        samples = {order: figures_of(run) for order, run in by_method[name].items()}
        summary["methods"][name] = {
            "orders": sorted(samples),
            **{
                figure: _mean([each[figure] for each in samples.values()])
                for figure in FIGURES
                if all(figure in each for each in samples.values())
            },
        }
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


def write_report(summary: Mapping[str, Any], folder: Path) -> None:
    """Write `cil-SCALE.json` and `.md` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"cil-{summary['scale']}"
    stem.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(_markdown(summary), encoding="utf-8")


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean and half the width of its 95 % confidence interval (Student's t)."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return {"mean": round(mean, 4), "ci95": None}
    spread = statistics.stdev(values) / len(values) ** 0.5
    ci95 = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return {"mean": round(mean, 4), "ci95": round(ci95, 4)}


def _place(name: str) -> tuple[int, str]:
    method = name.partition("@")[0]
    return (list(ALL_METHODS).index(method) if method in ALL_METHODS else len(ALL_METHODS), name)


def _text(name: str) -> str:
    method, _, settings = name.partition("@")
    text = ALL_METHODS[method].text if method in ALL_METHODS else method
    return f"{text}; {settings.replace('@', ', ')}" if settings else text


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [
        f"# {summary['course']}, {summary['split']} split",
        "",
        f"`{summary['command']}`",
        "",
        "Percentage points, mean and 95 % confidence interval of the orders.",
        "",
        "| method | last | average | forgetting | seconds | orders |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in summary["methods"].items():
        cells = [_cell(figures.get(figure)) for figure in FIGURES]
        lines.append(f"| {_text(name)} | {' | '.join(cells)} | {len(figures['orders'])} |")
    return "\n".join([*lines, ""])


def _cell(figure: Mapping[str, float | None] | None) -> str:
    if figure is None or figure["mean"] is None:
        return ""
    text = f"{figure['mean']:.1f}"
    return text if figure["ci95"] is None else f"{text} +- {figure['ci95']:.1f}"
