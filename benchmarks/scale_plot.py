"""Draws what benchmarks/scale.py measured and what its model says, as docs/scaling.png.

python benchmarks/scale_plot.py benchmarks/results/scale.json docs/scaling.png
"""

import json
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SIZES = (1, 2, 4, 8, 16, 32, 64)
NETWORKS = {"": "small CNN, 28 x 28", "resnet18_": "ResNet-18, 32 x 32"}
# Okabe and Ito's colours, and dashes that tell the curves apart without any.
STYLES = {
    "speedup": {"color": "#0072B2", "marker": "o", "label": "network as loopback here"},
    "speedup_ethernet": {
        "color": "#D55E00",
        "marker": "s",
        "linestyle": "--",
        "label": "10 Gbit/s, 50 us",
    },
}


def main(source: Path, target: Path) -> None:
    """Draw one panel for each network."""
    figures = json.loads(source.read_text(encoding="utf-8"))["figures"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (prefix, title) in zip(figure.subplots(1, 2), NETWORKS.items(), strict=True):
        axes.plot(SIZES, SIZES, color="#999999", linewidth=1, label="ideal")
        for name, style in STYLES.items():
            speeds = [1.0, *(figures[f"{prefix}{name}_{size}"] for size in SIZES[1:])]
            axes.plot(SIZES, speeds, **style)
        axes.plot(
            [2],
            [figures[f"{prefix}two_rank_speedup"]],
            color="black",
            marker="*",
            markersize=12,
            linestyle="",
            label="measured",
        )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(SIZES, [str(size) for size in SIZES])
        axes.set_yticks(SIZES, [str(size) for size in SIZES])
        axes.set_xlabel("ranks of one thread")
        axes.set_ylabel("times as fast as one")
        axes.set_title(title)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
