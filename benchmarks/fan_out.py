"""How many inference hosts can follow one daemon? 2,000 simulated loaders, while it learns.

The loaders (benchmarks/loaders.py) poll every 10 s, jittered, and take the same cores as the
daemon. First tasks are learned with nobody asking, then with all of them; a task is long enough
that every loader has its version before the next one.

    loaders, poll_seconds        how many, how often each asks
    requests_per_second          answered, over the whole time; 429 and 503 are not
    refused_ratio                429, 503 and broken connections / requests
    mb_per_second                of bodies
    unchanged_p50_ms, _p99_ms    a poll that finds nothing new (304), from connecting to the answer
    last_serves_seconds          from `current` to the last loader that has the version, by version
    had_it_ratio                 loaders that had the version before the next one came / all; one
                                 that is refused later and fetches it again counts twice
    step_ratio                   duration of a training step, with loaders / without

One host's processes share a cache and download once (tests/test_version_fetching.py). More hosts
than one daemon serves follow a mirror (publication.mirrors).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch
from overload import Feed, run_daemon
from prometheus_client.parser import text_string_to_metric_families
from report import ROOT, Report, parse_arguments, progress
from small_base import train_small_base

from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.named_datasets import load_digits
from teacherd.models.artifact import version_folder

INSTANCES = 500
REFUSALS = ("0", "429", "503")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what one may want to change."""
    parser.add_argument("--loaders", type=int, default=2000)
    parser.add_argument("--poll-seconds", type=float, default=10.0)
    parser.add_argument("--requests-per-second", type=float, default=500.0)
    parser.add_argument("--epochs", type=int, default=600, help="of a task: its length")


def main() -> None:
    """Learn alone, then with loaders, and report."""
    arguments = parse_arguments(__doc__, add_arguments)
    num_tasks = 2 if arguments.quick else 4
    torch.set_num_threads(1)
    report = Report("fan_out", arguments)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        digits = load_digits()
        train_small_base(directory, digits)
        source = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
        feed = Feed(source, digits)
        changes: dict[str, dict[str, object]] = {
            "tasks": {"buffer_bytes": 64 << 20},
            "learning": {"epochs": arguments.epochs},
            "publication": {"keep_versions": 50},
            "endpoints": {
                "serve_versions": True,
                "max_requests_per_second": arguments.requests_per_second,
            },
            "gate": {"holdout_share": 0.0},
        }
        with run_daemon(directory, arguments.device, changes) as daemon:
            feed.append(INSTANCES * (3 * num_tasks + 6))
            wait_for_version(daemon.url, 1)
            alone = step_seconds(daemon.url, num_tasks=num_tasks)
            started = time.monotonic()
            loaders = start_loaders(daemon.url, arguments)
            try:
                # All have asked once, and have found a version.
                time.sleep(2 * arguments.poll_seconds)
                together = step_seconds(daemon.url, num_tasks=num_tasks)
                time.sleep(2 * arguments.poll_seconds)
                found = json.loads(loaders.communicate()[0])
            finally:
                loaders.kill()
            seconds = time.monotonic() - started
        source.close()
        add_figures(report, arguments, found, seconds)
        add_versions(report, found["served_at"], directory / "state" / "public", arguments.loaders)
    report.add_ratio("step_ratio", [together.step], [alone.step])
    report.close()


class Pace:
    """Durations, as the daemon's own metrics have them."""

    def __init__(self, *, step: float, task_seconds: float) -> None:
        """Take both in seconds."""
        self.step = step
        self.task_seconds = task_seconds


def step_seconds(url: str, *, num_tasks: int) -> Pace:
    """Return the mean duration of a step over the next so many tasks."""
    before, started = read_metrics(url), time.monotonic()
    wait_for_version(url, int(before["teacher_version"]) + num_tasks)
    after = read_metrics(url)
    seconds, steps = (
        after[f"train_step_duration_seconds_{name}"] - before[f"train_step_duration_seconds_{name}"]
        for name in ("sum", "count")
    )
    pace = Pace(step=seconds / steps, task_seconds=(time.monotonic() - started) / num_tasks)
    progress(f"{1000 * pace.step:.2f} ms a step, {pace.task_seconds:.1f} s a task")
    return pace


def read_metrics(url: str) -> dict[str, float]:
    """Return the daemon's metrics without labels; whoever asks too much is not in their way."""
    with urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310 (the daemon's own)
        families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.name.removeprefix("teacherd_"): sample.value
            for family in families
            for sample in family.samples
            if not sample.labels
        }


def wait_for_version(url: str, version: int) -> None:
    """Wait until a version is served."""
    while read_metrics(url)["teacher_version"] < version:
        time.sleep(0.5)


def start_loaders(url: str, arguments: argparse.Namespace) -> "subprocess.Popen[bytes]":
    """Start the loaders' process; it ends with its stdin."""
    numbers = map(str, (arguments.loaders, arguments.poll_seconds))
    command = [sys.executable, str(ROOT / "benchmarks" / "loaders.py"), f"{url}/public", *numbers]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def add_figures(
    report: Report, arguments: argparse.Namespace, found: dict[str, Any], seconds: float
) -> None:
    """Report what all loaders together saw."""
    statuses: dict[str, int] = found["statuses"]
    total, refused = sum(statuses.values()), sum(statuses.get(each, 0) for each in REFUSALS)
    report.add("loaders", [arguments.loaders])
    report.add("poll_seconds", [arguments.poll_seconds])
    report.add("requests_per_second", [(total - refused) / seconds])
    report.add("refused_ratio", [refused / total])
    report.add("mb_per_second", [found["bytes"] / seconds / 1e6])
    report.add("unchanged_p50_ms", [1000 * found["p50"]])
    report.add("unchanged_p99_ms", [1000 * found["p99"]])
    progress(f"answers by status: {statuses}")


def add_versions(
    report: Report, served_at: dict[str, list[float]], public: Path, num_loaders: int
) -> None:
    """Report how long each version took that was published while all loaders were there."""
    # The first ones are what they found; the last one may have come too late.
    complete = [int(each) for each, (*_, count) in served_at.items() if count > num_loaders / 2]
    versions = sorted(complete)[1:]
    took, had = [], []
    for version in versions:
        _, last, count = served_at[str(version)]
        # The folder gets its name just before `current` is replaced.
        published = version_folder(public, version).stat().st_mtime
        took.append(last - published)
        had.append(count / num_loaders)
    report.add("last_serves_seconds", took)
    report.add("had_it_ratio", had)


if __name__ == "__main__":
    main()
