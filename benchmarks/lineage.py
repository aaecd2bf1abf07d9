"""What does a long lineage cost? Lineage log and what is held of it, by number of tasks.

A log of 20,000 tasks, each of one range with ten rejected records and the figures of a real
outcome, is appended to, opened and folded as the daemon does. Then a real lineage of a few tasks
is learned, replayed and backed up beside the stream log.

    log_bytes_per_task       on the disk
    memory_bytes_per_task    held for as long as the daemon runs
    open_seconds_per_1000    CPU of a start: reading, checking and folding a thousand tasks
    replay_ratio             seconds of a replay / seconds of learning the same tasks
    backup_seconds           of a backup of that lineage
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from report import ROOT, Report, parse_arguments, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))

from base_models import digits_base
from stream_writing import append_digits

from teacherd.daemon.backup import make_backup
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import ClosedRange, Entry, Open, Outcome, Plan, Publish
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage_log import LineageLog
from teacherd.daemon.replaying import replay_versions

FIGURES = ("outer_ratio", "retain", "newest_event_ms", "loss.total", "loss.fused", "loss.dust")
NOW = "2030-01-01T00:00:00.000+00:00"
RECORDS_PER_TASK = 2000
TASK_INSTANCES = 300
POLL_SECONDS = 0.2


def main() -> None:
    """Measure and report."""
    arguments = parse_arguments(__doc__)
    report = Report("lineage", arguments)
    num_tasks, repetitions = (1000, 1) if arguments.quick else (20_000, 3)
    with tempfile.TemporaryDirectory() as name:
        measure_log(Path(name), num_tasks, repetitions, report)
        measure_verbs(Path(name), arguments.device, 3 if arguments.quick else 10, report)
    report.close()


def measure_log(directory: Path, num_tasks: int, repetitions: int, report: Report) -> None:
    """Write one long log, and open it again and again."""
    path = directory / "lineage.log"
    tracemalloc.start()
    journal = Journal(LineageLog(path, now=lambda: NOW))
    before = tracemalloc.get_traced_memory()[0]
    # What the disk costs is another question.
    with patch("os.fsync", lambda _descriptor: None):
        for entry in entries(num_tasks):
            journal.record(entry)
    memory = tracemalloc.get_traced_memory()[0] - before
    report.add("memory_bytes_per_task", [memory / num_tasks])
    tracemalloc.stop()
    journal.close()
    report.add("log_bytes_per_task", [path.stat().st_size / num_tasks])
    seconds = []
    for _ in range(repetitions):
        # Of the processor: the file is in memory, and a busy machine would blur the wall's.
        started = time.process_time()
        Journal(LineageLog(path, now=lambda: NOW)).close()
        seconds.append((time.process_time() - started) * 1000 / num_tasks)
        progress(f"opened in {seconds[-1]:.3f} s for a thousand tasks")
    report.add("open_seconds_per_1000", seconds)


def entries(num_tasks: int) -> Iterator[Entry]:
    """Yield the entries of so many accepted tasks."""
    yield Open(lineage="a1", seed=7, sha256="0" * 64, classes=("a", "b"))
    for task in range(1, num_tasks + 1):
        start = task * RECORDS_PER_TASK
        yield Plan(
            task=task,
            cause="count",
            head=task - 1,
            seed=7,
            epochs=40,
            learning_rate=0.01,
            num_instances=RECORDS_PER_TASK - 10,
            ranges=(
                ClosedRange(
                    topic="instances",
                    partition=0,
                    start=start,
                    end=start + RECORDS_PER_TASK,
                    count=RECORDS_PER_TASK,
                    digest=digest("records", task),
                    rejected=tuple(range(start, start + 1000, 100)),
                ),
            ),
        )
        yield Outcome(
            task=task,
            result="accepted",
            version=task,
            sha256=digest("version", task),
            should_publish=True,
            figures=dict.fromkeys(FIGURES, 0.123456789 * task),
        )
        yield Publish(version=task)


def measure_verbs(directory: Path, device: str, num_tasks: int, report: Report) -> None:
    """Have a daemon learn some tasks; replay and back up what it did."""
    digits_base(directory)
    settings = {
        "model": {"base": str(directory / "base")},
        "process": {
            "state_directory": str(directory / "state"),
            "device": device,
            "num_threads": 1,
        },
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    append_digits(directory / "stream.db", 0, num_tasks * TASK_INSTANCES)
    config = parse(Config, settings, origin="benchmark")
    learned = learn(directory, settings, num_tasks)
    started = time.perf_counter()
    replayed = replay_versions(config, target=None, start=None, out=None, on_task=tell)
    seconds = time.perf_counter() - started
    if replayed.result != "equal":
        sys.exit(f"the replay is {replayed.result}")
    report.add("replay_ratio", [seconds / learned])
    started = time.perf_counter()
    make_backup(
        directory / "state",
        directory / "backup",
        stream_log=config.stream_log,
        all_versions=True,
        now=NOW,
        on_progress=tell,
    )
    report.add("backup_seconds", [time.perf_counter() - started])


def learn(directory: Path, settings: dict[str, Any], num_tasks: int) -> float:
    """Run the daemon until all tasks are closed; return the seconds that it learned."""
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "teacherd.daemon", "run", "--config", "config.yaml"]
    with (directory / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, cwd=directory, stderr=log)
        try:
            while len(closed := durations(directory / "daemon.log")) < num_tasks:
                if daemon.poll() is not None:
                    sys.exit(f"the daemon ended with {daemon.returncode}")
                time.sleep(POLL_SECONDS)
        finally:
            daemon.terminate()
            daemon.wait()
    return sum(closed)


def durations(path: Path) -> list[float]:
    """Return how long each task took."""
    lines = path.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return [event["duration_seconds"] for event in events if event["event"] == "task_closed"]


def tell(done: int, total: int) -> None:
    """Show progress."""
    progress(f"{done} of {total}")


def digest(kind: str, number: int) -> str:
    """Return a sha256 as the log has them."""
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


if __name__ == "__main__":
    main()
