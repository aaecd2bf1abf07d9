"""What happens when twice as much arrives as can be learned? A daemon of its own, for minutes.

First the daemon works off a backlog, which gives its rate of learning. Then a producer appends
twice as much for minutes, while resident memory, buffer and lag are read. In the end the same goes
on with `tasks.max_instances` and `learning.min_epochs`: tasks grow and epochs shrink.

    offered_ratio         rate of arrival / rate of learning, as it came out
    rss_growth_mb         growth of the daemon's memory from the first to the last fifth of it
    buffer_full_ratio     largest buffer / tasks.buffer_bytes
    lag_growth_ratio      growth of the lag / (records appended - records taken in): 1 is all of it
    lost, twice           records of the log below the lineage's place in no plan, or in two
    kept_up_ratio         with growing and shrinking: records decided / records appended
    epochs_smallest       fewest epochs of a plan then, of 20
    task_instances_largest  most instances of a plan then, of 500
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
import yaml
from memory import resident_bytes, wait_for_port
from report import Report, parse_arguments, progress
from small_base import train_small_base

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.entries import Plan
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.named_datasets import load_digits
from teacherd.daemon.status_client import fetch_status

INSTANCES = 500
EPOCHS = 20
LARGEST, FEWEST = 4 * INSTANCES, 2
BUFFER_BYTES = 1 << 20
OVERLOAD = 2.0
SAMPLE_SECONDS = 0.5


def main() -> None:
    """Measure the rate, then run both overloads and report."""
    arguments = parse_arguments(__doc__)
    seconds = 20.0 if arguments.quick else 180.0
    torch.set_num_threads(1)
    report = Report("overload", arguments)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        digits = load_digits()
        train_small_base(directory, digits)
        source = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
        feed = Feed(source, digits)
        with run_daemon(directory, arguments.device) as daemon:
            learning = learning_rate(daemon, feed, seconds / 2)
            progress(f"learns {learning:.0f} records a second")
            plain = overload(daemon, feed, learning * OVERLOAD, seconds)
        grown = {
            "tasks": {"max_instances": LARGEST},
            "learning": {"min_epochs": FEWEST},
        }
        before = len(plans(directory))
        with run_daemon(directory, arguments.device, grown) as daemon:
            keeping_up = overload(daemon, feed, learning * OVERLOAD, seconds)
        source.close()
        add_plain(report, plain)
        add_accounts(report, plans(directory), feed.num_appended)
        report.add("kept_up_ratio", [keeping_up.decided / keeping_up.appended])
        grown_plans = plans(directory)[before:]
        report.add("epochs_smallest", [min(plan.epochs for plan in grown_plans)])
        report.add("task_instances_largest", [max(plan.num_instances for plan in grown_plans)])
    report.close()


class Feed:
    """Appends digits at a rate."""

    def __init__(self, source: StreamLog, digits: Dataset) -> None:
        self._source = source
        values = [encode_npy(image) for image in digits.inputs]
        records = [
            build_record(value, content_type=NPY, label=int(label))
            for value, label in zip(values, digits.labels, strict=True)
        ]
        self._records: Iterator[NewRecord] = itertools.cycle(records)
        self.num_appended = 0

    def append(self, count: int) -> None:
        """Append so many."""
        if count > 0:
            self._source.append(itertools.islice(self._records, count))
            self.num_appended += count


@dataclass(slots=True)
class Daemon:
    """A running daemon, and where it answers."""

    pid: int
    url: str

    def decided(self) -> int:
        """Return how many records of the stream are decided."""
        places = fetch_status(self.url)["lineage"]["places"]
        return max(0, sum(places.values()) - 1)


@dataclass(slots=True)
class Overload:
    """What one overload came to."""

    seconds: float = 0.0
    appended: int = 0
    taken: int = 0
    decided: int = 0
    lag_growth: int = 0
    resident: list[int] = field(default_factory=list)
    buffered: list[int] = field(default_factory=list)
    learning: list[float] = field(default_factory=list)


@contextmanager
def run_daemon(
    directory: Path, device: str, changes: dict[str, dict[str, object]] | None = None
) -> Iterator[Daemon]:
    """Run the daemon until the end of the block."""
    settings: dict[str, dict[str, object]] = {
        "process": {"device": device, "num_threads": 1},
        "tasks": {"instances": INSTANCES, "buffer_bytes": BUFFER_BYTES, "max_age_seconds": 3600.0},
        "learning": {"epochs": EPOCHS},
        "publication": {"keep_versions": 5},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    for section, values in (changes or {}).items():
        settings[section] = settings.get(section, {}) | values
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "teacherd.daemon", "run", "--config", "config.yaml"]
    with (directory / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stderr=log)
        try:
            port = wait_for_port(directory, process)
            yield Daemon(process.pid, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait()


def learning_rate(daemon: Daemon, feed: Feed, seconds: float) -> float:
    """Return how many records a second are decided while more than enough waits."""
    feed.append(4 * INSTANCES)
    while daemon.decided() < INSTANCES:  # the first task warms up
        time.sleep(SAMPLE_SECONDS)
    first, started = daemon.decided(), time.monotonic()
    decided, moment = first, started
    while moment - started < seconds or decided < first + 2 * INSTANCES:
        if feed.num_appended - decided < 3 * INSTANCES:
            feed.append(2 * INSTANCES)
        time.sleep(SAMPLE_SECONDS)
        now = daemon.decided()
        if now > decided:
            # Only whole tasks: part of one would say less than was done.
            decided, moment = now, time.monotonic()
    return (decided - first) / (moment - started)


def overload(daemon: Daemon, feed: Feed, rate: float, seconds: float) -> Overload:
    """Append at a rate for so long, and look at the daemon meanwhile."""
    result = Overload()
    before, lag_before = fetch_status(daemon.url), None
    taken_before, decided_before = before["intake"]["records"], daemon.decided()
    lag_before = sum(before["intake"]["lag"].values())
    started, appended_before = time.monotonic(), feed.num_appended
    while (elapsed := time.monotonic() - started) < seconds:
        feed.append(int(rate * elapsed) - (feed.num_appended - appended_before))
        status = fetch_status(daemon.url)
        result.resident.append(resident_bytes(daemon.pid))
        result.buffered.append(status["buffer"]["bytes"])
        if status["load"]["learning_records_per_second"]:
            result.learning.append(status["load"]["learning_records_per_second"])
        progress(f"{elapsed:.0f} s: lag {status['intake']['lag']}, load {status['load']}")
        time.sleep(SAMPLE_SECONDS)
    time.sleep(2.0)  # the lag is looked at once a second
    after = fetch_status(daemon.url)
    result.seconds = elapsed
    result.appended = feed.num_appended - appended_before
    result.taken = after["intake"]["records"] - taken_before
    result.decided = daemon.decided() - decided_before
    result.lag_growth = sum(after["intake"]["lag"].values()) - lag_before
    return result


def add_plain(report: Report, plain: Overload) -> None:
    """Report what the overload without growing and shrinking came to."""
    fifth = max(1, len(plain.resident) // 5)
    growth = median(plain.resident[-fifth:]) - median(plain.resident[:fifth])
    report.add("offered_ratio", [plain.appended / plain.seconds / median(plain.learning)])
    report.add("rss_growth_mb", [growth / 1e6])
    report.add("buffer_full_ratio", [max(plain.buffered) / BUFFER_BYTES])
    report.add("lag_growth_ratio", [plain.lag_growth / max(1, plain.appended - plain.taken)])


def add_accounts(report: Report, made: list[Plan], num_appended: int) -> None:
    """Report records of the log below the lineage's place that are in no plan, or in two."""
    place, lost, twice = 1, 0, 0
    for plan in made:
        for closed in plan.ranges:
            lost += max(0, closed.start - place) + (closed.end - closed.start - closed.count)
            twice += max(0, place - closed.start)
            place = closed.end
    assert place <= num_appended + 1, "plans reach beyond the log"
    report.add("lost", [lost])
    report.add("twice", [twice])


def plans(directory: Path) -> list[Plan]:
    """Return the plans of the lineage."""
    entries = (logged.entry for logged in read_lineage_log(directory / "state" / "lineage.log"))
    return [entry for entry in entries if isinstance(entry, Plan)]


if __name__ == "__main__":
    main()
