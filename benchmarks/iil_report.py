"""What the runs of benchmarks/iil.py come to: figures with confidence, a table, plots."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from course_report import (
    Figure,
    MethodNames,
    cell_of,
    mean_of,
    means_of,
    orders_of,
    runs_by_method,
)
from course_runs import Runs
from iil_methods import ALL_METHODS

FIGURES = ("pp", "f", "g", "seconds")
NAMES = MethodNames(ALL_METHODS)


def summarise(runs: Runs) -> dict[str, Any]:
    """Return the figures of all finished runs, method by method (method.md, 1).

    `pp` and `f` in percentage points, `g` as a share of what joint retraining of the same order
    gained. A method without a joint run beside it has no `g`.
    """
    by_method = runs_by_method(runs)
    joint = by_method.get("joint", {})
    summary: dict[str, Any] = {"methods": {}, "orders": orders_of(by_method)}
    for name in NAMES.sort(by_method):
        samples = {order: _figures(run, joint.get(order)) for order, run in by_method[name].items()}
        summary["methods"][name] = {
            "orders": sorted(samples),
            **means_of(samples, FIGURES),
            "curve": _curve(list(by_method[name].values())),
        }
    every = [run for each in by_method.values() for run in each.values()]
    if every:
        by_order = {o: run for each in by_method.values() for o, run in each.items()}
        summary["base_accuracy"] = mean_of([100 * run["base"]["test"] for run in by_order.values()])
    if joint:
        last = [100 * run["tasks"][-1]["test"] for run in joint.values()]
        summary["joint_accuracy"] = mean_of(last)
    return summary


def write_report(summary: Mapping[str, Any], folder: Path) -> None:
    """Write `iil-SCALE.json`, `.md` and `.png` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"iil-{summary['scale']}"
    stem.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(_markdown(summary, stem.name), encoding="utf-8")
    _plot(summary, stem.with_suffix(".png"))


def _figures(run: Mapping[str, Any], joint: Mapping[str, Any] | None) -> dict[str, float]:
    base, last = run["base"], run["tasks"][-1]
    gain = last["test"] - base["test"]
    figures = {
        "pp": 100 * gain,
        "f": 100 * (base["base"] - last["base"]),
        "seconds": run["seconds"],
    }
    if joint is not None:
        figures["g"] = gain / (joint["tasks"][-1]["test"] - base["test"])
    return figures


def _curve(runs: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return [task, mean PP, mean F] after each task that was measured in every run."""
    curve = []
    for place in range(min(len(run["tasks"]) for run in runs)):
        if not all("test" in run["tasks"][place] for run in runs):
            continue
        tasks = [(run["base"], run["tasks"][place]) for run in runs]
        gained = statistics.mean(100 * (task["test"] - base["test"]) for base, task in tasks)
        lost = statistics.mean(100 * (base["base"] - task["base"]) for base, task in tasks)
        curve.append([place + 1, round(gained, 4), round(lost, 4)])
    return curve


def _markdown(summary: Mapping[str, Any], stem: str) -> str:
    lines = [
        f"# {summary['course']}, {summary['split']} split",
        "",
        f"`{summary['command']}`",
        "",
        (
            f"Base {_cell(summary.get('base_accuracy'))} %, joint retraining "
            f"{_cell(summary.get('joint_accuracy'))} %. Mean and 95 % confidence interval of the "
            "orders. "
            "PP: points gained on the test set; F: points lost on the base's own data; G: share of "
            "what joint retraining gains."
        ),
        "",
        "| method | PP | F | G | seconds | stores of old data | orders |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in summary["methods"].items():
        method = name.partition("@")[0]
        memory = ALL_METHODS[method].memory if method in ALL_METHODS else ""
        cells = [_cell(figures.get(figure)) for figure in FIGURES]
        orders = len(figures["orders"])
        lines.append(f"| {NAMES.word(name)} | {' | '.join(cells)} | {memory} | {orders} |")
    return "\n".join([*lines, "", f"![{stem}]({stem}.png)", ""])


def _cell(figure: Figure | None) -> str:
    return cell_of(figure, digits=2)


def _plot(summary: Mapping[str, Any], path: Path) -> None:
    """Draw PP over the tasks, and PP against F at the end, of methods with as many orders as any.

    A mean over fewer of them would be compared with what it cannot be compared with. Variants of
    ours are grey dots on the right: there are too many to be told apart.
    """
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and only a report needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    most = max((len(each["orders"]) for each in summary["methods"].values()), default=0)
    for name, each in summary["methods"].items():
        if name == "joint" or not each["curve"] or len(each["orders"]) < most:
            continue
        pp, f = each["pp"], each["f"]
        method = ALL_METHODS.get(name.partition("@")[0])
        if method is not None and method.is_variant:
            right.plot(f["mean"], pp["mean"], "o", color="darkgray", markersize=4, zorder=1)
            continue
        tasks, gained, _ = zip(*each["curve"], strict=True)
        style = {"linewidth": 2.5, "color": "black"} if name == "ours" else {"linewidth": 1.0}
        (line,) = left.plot([0, *tasks], [0, *gained], label=name, **style)
        right.errorbar(
            f["mean"],
            pp["mean"],
            xerr=f["ci95"] or 0,
            yerr=pp["ci95"] or 0,
            fmt="o",
            color=line.get_color(),
            markersize=5,
            elinewidth=0.7,
        )
        right.annotate(
            name, (f["mean"], pp["mean"]), fontsize=7, xytext=(4, 3), textcoords="offset points"
        )
    if "joint" in summary["methods"]:
        for axes in (left, right):
            axes.axhline(summary["methods"]["joint"]["pp"]["mean"], color="gray", linestyle="--")
    left.set(xlabel="task", ylabel="PP, points on the test set")
    left.legend(fontsize=7, ncols=2)
    right.set(xlabel="F, points forgotten of the base's data", ylabel="PP")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
