"""What all benchmarks share: arguments, fair repetitions, facts of the machine, one line of JSON.

A benchmark measures; this module says what was measured where. Use:

    arguments = parse_arguments(__doc__)
    report = Report("learner", arguments)
    report.add_ratio("step_ratio", ours, reference)
    report.close()
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
_PACKAGES = ("torch", "torchvision", "numpy", "pillow")


def parse_arguments(
    description: str | None, add: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    """Return `quick`, `device` and `out`, and whatever `add` puts on the parser."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run at all?")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    if add is not None:
        add(parser)
    return parser.parse_args()


def alternate(
    ours: Callable[[], float], reference: Callable[[], float], *, repetitions: int
) -> tuple[list[float], list[float]]:
    """Run both in turn, so that a machine that slows down slows both; return what each gave.

    One repetition of each goes before and is not kept: caches, allocators and lazy imports.
    """
    ours()
    reference()
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        samples[0].append(ours())
        samples[1].append(reference())
    return samples


class Report:
    """Collects figures with their spread and prints them as the last line of stdout."""

    def __init__(self, benchmark: str, arguments: argparse.Namespace) -> None:
        """Start the clock of the whole benchmark."""
        self._benchmark = benchmark
        self._arguments = arguments
        self._started = time.perf_counter()
        self._figures: dict[str, float] = {}
        self._spread: dict[str, tuple[float, float]] = {}

    def add(self, name: str, samples: Sequence[float]) -> None:
        """Keep the median of the repetitions, and the smallest and largest as its spread."""
        self._figures[name] = _rounded(statistics.median(samples))
        self._spread[name] = (_rounded(min(samples)), _rounded(max(samples)))
        progress(f"{name} {self._figures[name]} (from {min(samples):.4g} to {max(samples):.4g})")

    def add_ratio(self, name: str, ours: Sequence[float], reference: Sequence[float]) -> None:
        """Keep ours / reference, pair by pair of alternating repetitions."""
        self.add(name, [mine / theirs for mine, theirs in zip(ours, reference, strict=True)])

    def close(self) -> None:
        """Print the report as one line, and write it to `--out` where that is given."""
        script, *rest = sys.argv
        line = json.dumps(
            {
                "benchmark": self._benchmark,
                "command": shlex.join(["python", f"benchmarks/{Path(script).name}", *rest]),
                "commit": _commit(),
                "device": _device(self._arguments.device),
                "versions": _versions(),
                "seconds": round(time.perf_counter() - self._started, 1),
                "figures": self._figures,
                "spread": self._spread,
            }
        )
        if self._arguments.out is not None:
            self._arguments.out.write_text(line + "\n", encoding="utf-8")
        print(line, flush=True)


def progress(message: str) -> None:
    """Say something while it runs; stdout is kept for the result."""
    print(message, file=sys.stderr, flush=True)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _commit() -> str:
    """Return the commit that was measured, marked where the tree differs from it."""
    # Found on the path as everyone's git is; without git the report still is one.
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _device(kind: str) -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "kind": kind,
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if kind == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
