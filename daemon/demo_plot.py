"""The demo's plot: accuracy and forgetting of each model over the stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which all common forms of colour blindness tell apart; markers and
# dashes tell the curves apart without any colour.
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "base model": {"color": "#555555", "linestyle": (0, (5, 3)), "linewidth": 1.4},
    "plain fine-tuning": {"color": "#D55E00", "marker": "s", "linewidth": 1.6},
    "student": {"color": "#56B4E9", "marker": "^", "linewidth": 1.2, "linestyle": (0, (1, 1))},
    "teacher": {"color": "#0072B2", "marker": "o", "linewidth": 2.6},
}
_MARKER_POINTS = 5
_DRIFT_SHADE = "#F3EEDF"
_QUIET = "#707070"
_DOTS_PER_INCH = 150


@dataclass(frozen=True, slots=True)
class Curve:
    """One model's accuracies by evaluation set, at places of the stream."""

    name: str
    places: Sequence[int]
    accuracies: Sequence[Mapping[str, float]]

    def values(self, split: str) -> list[float]:
        """Return the accuracies on one set, in percent."""
        return [100 * accuracy[split] for accuracy in self.accuracies]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotFacts:
    """What the plot says beside the curves."""

    title: str
    drifted: str
    """What the held-out instances are, as the stream is from halfway on."""
    plain: str
    """What they are of it before."""
    drift: str
    drift_at: int
    task_marks: Sequence[int]
    """Places of the stream at which tasks ended."""


def draw_plot(curves: Sequence[Curve], *, facts: PlotFacts, path: Path) -> None:
    """Draw accuracy on the drifted and the plain held-out set, and forgetting, into a PNG.

    Args:
        curves: The first one is the base model's, which forgetting is measured against.
        facts: Title and marks.
        path: Overwritten.
    """
    # Late: matplotlib is of the extra `demo`, and takes a second to import. The figure is built
    # without pyplot, which would keep global state and might look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8.6, 8.2), layout="constrained")
    FigureCanvasAgg(figure)
    drifted, plain, forgetting = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    for curve in curves:
        _draw_curve(drifted, curve, curve.values("drifted"))
        _draw_curve(plain, curve, curve.values("plain"))
    base = curves[0].values("base")[0]
    for curve in curves[1:]:
        _draw_curve(forgetting, curve, [base - value for value in curve.values("base")])
    forgetting.axhline(0, **_STYLES["base model"])
    drifted.set_title(f"Accuracy on held-out instances, {facts.drifted} (%)", loc="left")
    plain.set_title(f"Accuracy on the same instances, {facts.plain} (%)", loc="left")
    forgetting.set_title(
        "Forgetting: accuracy lost on the base model's own data (points)", loc="left"
    )
    for axes in (drifted, plain, forgetting):
        _draw_marks(axes, facts)
    drifted.legend(loc="upper left", frameon=False)
    # Below the curves, which rise after the drift, and above the base's line.
    drifted.text(
        0.98,
        0.2,
        f"shaded: the stream is {facts.drift}",
        transform=drifted.transAxes,
        horizontalalignment="right",
        color=_QUIET,
    )
    forgetting.set_xlabel("instances learned (ticks above the axis: a task ended)")
    figure.suptitle(facts.title, x=0.01, horizontalalignment="left", fontweight="bold")
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _draw_curve(axes: "Axes", curve: Curve, values: Sequence[float]) -> None:
    axes.plot(
        curve.places, values, label=curve.name, markersize=_MARKER_POINTS, **_STYLES[curve.name]
    )


def _draw_marks(axes: "Axes", facts: PlotFacts) -> None:
    last = facts.task_marks[-1]
    axes.set_xlim(0, 1.02 * last)
    axes.axvspan(facts.drift_at, 1.02 * last, color=_DRIFT_SHADE, zorder=0)
    axes.axvline(facts.drift_at, color=_QUIET, linewidth=1.0)
    for place in facts.task_marks:
        axes.axvline(place, ymax=0.04, color=_QUIET, linewidth=1.0)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(10)
