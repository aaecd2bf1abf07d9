"""Prints what benchmarks/scale.py measured as the tables of docs/scaling.md.

python benchmarks/scale_tables.py benchmarks/results/scale.json
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from scale_plot import NETWORKS, SIZES, STYLES

RANGE = "{{{0}:.2f}} ({{{0}_low:.2f}} to {{{0}_high:.2f}})"
MEASURED = {
    "two ranks against one (`two_rank_speedup`)": RANGE.format("two_rank_speedup"),
    "the same if they add nothing up (`two_rank_limit`)": RANGE.format("two_rank_limit"),
    "one held against the other (`exchange_efficiency`)": RANGE.format("exchange_efficiency"),
    "share of a task spent adding up, waiting for the other included": "{all_reduce_share:.1%}",
    "share spent outside compute: that, and what follows": "{outside_compute_share:.1%}",
    "once a task of 2,000 instances: cut, plan, broadcast, checkpoint": (
        "{cut_ms:.2g}, {plan_ms:.2g}, {broadcast_ms:.2g}, {checkpoint_ms:.3g} ms"
    ),
    "an all-reduce of the gradients, of one number": (
        "{all_reduce_ms:.2g} ms, {all_reduce_latency_us:.0f} us"
    ),
}
"""Rows of the first table, and what a cell is made of."""


def main(source: Path) -> None:
    """Print all tables."""
    report = json.loads(source.read_text(encoding="utf-8"))
    figures = dict(report["figures"])
    for name, (low, high) in report["spread"].items():
        figures |= {f"{name}_low": low, f"{name}_high": high}
    numbers = [str(size) for size in SIZES]
    print_table(["", *NETWORKS.values()], measured(figures))
    print_table(["ms a step of one rank of N", *numbers], computed(figures))
    print_table(["times as fast as one", *numbers], modelled(figures))


def measured(figures: Mapping[str, float]) -> Iterable[list[str]]:
    """Yield a row for each thing measured, a cell for each network."""
    for title, template in MEASURED.items():
        cells = [template.format_map(_of(prefix, figures)) for prefix in NETWORKS]
        yield [title, *cells]


def computed(figures: Mapping[str, float]) -> Iterable[list[str]]:
    """Yield a row for each network: what a step computes on one rank of N."""
    for prefix, title in NETWORKS.items():
        yield [title, *(f"{figures[f'{prefix}compute_ms_{size}']:.3g}" for size in SIZES)]


def modelled(figures: Mapping[str, float]) -> Iterable[list[str]]:
    """Yield a row for each network and kind of link: the speed that follows."""
    for prefix, title in NETWORKS.items():
        for name, style in STYLES.items():
            speeds = [f"{figures[f'{prefix}{name}_{size}']:.1f}" for size in SIZES[1:]]
            yield [f"{title}, {style['label']}", "1", *speeds]


def print_table(heads: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines), end="\n\n")


def _of(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Return one network's figures by their own names."""
    return {name.removeprefix(prefix): figures[name] for name in figures if name.startswith(prefix)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
