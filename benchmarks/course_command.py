"""The command line that benchmarks/iil.py and cil.py share, and what a call of them does."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from course_benchmark import CourseBenchmark, OutOfTime
from course_runs import Runs
from course_scale import CourseScale
from report import progress

from teacherd.models.placement import enable_determinism


def parser_of(
    description: str | None,
    *,
    scales: Collection[str],
    methods: Collection[str],
    all_methods: Collection[str],
    runs: Path,
) -> argparse.ArgumentParser:
    """Return the options that such benchmarks share.

    Args:
        description: For `--help`.
        scales: To choose from; `cpu` is the default.
        methods: By default.
        all_methods: To choose from.
        runs: Where runs are kept by default.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--scale", choices=sorted(scales), default="cpu")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--orders", type=int, default=5, help="how many of them")
    parser.add_argument("--first-order", type=int, default=0, help="seed of the first one")
    parser.add_argument(
        "--methods", default=",".join(methods), help=f"by comma, of {', '.join(all_methods)}"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--set", action="append", default=[], help="optimizer.learning_rate=0.02")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--runs", type=Path, default=runs, help="folder of the runs")
    parser.add_argument("--report", type=Path, help="folder to write a report into")
    return parser


def parse_methods(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    *,
    all_methods: Collection[str],
    of_avalanche: Collection[str],
) -> argparse.Namespace:
    """Return the arguments, the methods checked.

    Args:
        parser: Of `parser_of`.
        argv: None for the process's own.
        all_methods: To choose from.
        of_avalanche: Those that need avalanche-lib.
    """
    arguments = parser.parse_args(argv)
    arguments.methods = [name for name in arguments.methods.split(",") if name]
    unknown = sorted(set(arguments.methods) - set(all_methods))
    if unknown:
        parser.error(f"--methods: {unknown[0]}: no such method; take of {', '.join(all_methods)}")
    theirs = [name for name in arguments.methods if name in of_avalanche]
    if theirs and importlib.util.find_spec("avalanche") is None:
        parser.error(
            f"--methods: {theirs[0]}: needs avalanche-lib, which is not installed; "
            "pip install avalanche-lib, best in an environment of its own, or leave it out"
        )
    return arguments


def run_and_report(
    name: str,
    build: Callable[[], CourseBenchmark],
    arguments: argparse.Namespace,
    scale: CourseScale,
    *,
    summarise: Callable[[Runs], Mapping[str, Any]],
    write_report: Callable[[Mapping[str, Any], Path], None],
) -> None:
    """Run what is not done, then report all that is; the last line on stdout is JSON.

    Args:
        name: Of the benchmark's file.
        build: Makes the benchmark.
        arguments: The command line's.
        scale: The size.
        summarise: Returns the figures of finished runs.
        write_report: Writes them into a folder.
    """
    torch.set_num_threads(arguments.threads)
    enable_determinism(torch.device(arguments.device))
    benchmark = build()
    is_complete = True
    try:
        for order in range(arguments.first_order, arguments.first_order + arguments.orders):
            benchmark.run(order, arguments.methods)
    except OutOfTime:
        is_complete = False
        progress("the minutes are over; the same command goes on")
    summary = {
        "benchmark": name,
        "command": " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]]),
        "scale": scale.name,
        "course": scale.key,
        "split": arguments.split,
        "is_complete": is_complete,
        **summarise(benchmark.runs),
    }
    if arguments.report is not None:
        write_report(summary, arguments.report)
    print(json.dumps(summary), flush=True)
