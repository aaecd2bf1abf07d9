"""Does the daemon's memory grow? A long stream through the whole of it, as a process of its own.

The daemon learns 200,000 records in tasks of 2,000, with versions, checkpoints, retention and one
bad record in a thousand, while its resident memory is read. Growth is the median over the last
tenth of the stream less the median over its second tenth: the first tenth is warm-up.

    rss_growth_mb       MB that the daemon grew after warm-up
    rss_mb              MB that it had in the end, most of it torch
    records_per_second  of the whole run, learning included
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from report import Report, parse_arguments, progress
from small_base import train_small_base

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.named_datasets import load_digits
from teacherd.daemon.status_client import fetch_status

TASK_INSTANCES = 2000
APPEND_RECORDS = 2000
BAD_EVERY = 1000
SAMPLE_SECONDS = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run the stream and report."""
    arguments = parse_arguments(__doc__)
    num_records = 20_000 if arguments.quick else 200_000
    torch.set_num_threads(1)
    report = Report("memory", arguments)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        digits = load_digits()
        write_files(directory, digits, arguments.device)
        command = [sys.executable, "-m", "teacherd.daemon", "run", "--config", "config.yaml"]
        log = (directory / "daemon.log").open("wb")
        daemon = subprocess.Popen(command, cwd=directory, stderr=log)
        try:
            samples, seconds = watch(directory, daemon, digits, num_records)
        finally:
            daemon.terminate()
            daemon.wait()
            log.close()
    growth = tenth(samples, 9, num_records) - tenth(samples, 1, num_records)
    report.add("rss_growth_mb", [growth / 1e6])
    report.add("rss_mb", [samples[-1][1] / 1e6])
    report.add("records_per_second", [num_records / seconds])
    report.close()


def write_files(directory: Path, digits: Dataset, device: str) -> None:
    """Make a small base model and the configuration."""
    train_small_base(directory, digits)
    settings = {
        "process": {"device": device, "num_threads": 1},
        "stream_log": {"retention_bytes": 16_000_000},
        "tasks": {"instances": TASK_INSTANCES},
        "learning": {"epochs": 2, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "publication": {"keep_versions": 5},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def watch(
    directory: Path, daemon: "subprocess.Popen[bytes]", digits: Dataset, num_records: int
) -> tuple[list[tuple[int, int]], float]:
    """Feed the daemon; return (records decided, resident bytes) over time, and the seconds."""
    url = f"http://127.0.0.1:{wait_for_port(directory, daemon)}"
    source = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
    payloads = [encode_npy(image) for image in digits.inputs]
    appended, decided, samples = 0, 0, []
    started = time.monotonic()
    # The last, incomplete task is not waited for: bad records and the rest of the division.
    while decided <= num_records - TASK_INSTANCES - num_records // BAD_EVERY:
        if appended < num_records and appended - decided < 5 * TASK_INSTANCES:
            places = range(appended, appended + APPEND_RECORDS)
            source.append(
                build_record(
                    b"no array" if place % BAD_EVERY == 0 else payloads[place % len(payloads)],
                    content_type=NPY,
                    label=int(digits.labels[place % len(payloads)]),
                )
                for place in places
            )
            appended += APPEND_RECORDS
        else:
            time.sleep(SAMPLE_SECONDS)
        decided = sum(fetch_status(url)["lineage"]["places"].values()) - 1
        samples.append((max(decided, 0), resident_bytes(daemon.pid)))
        progress(f"{decided} of {num_records} records, {samples[-1][1] / 1e6:.1f} MB")
    source.close()
    return samples, time.monotonic() - started


def wait_for_port(directory: Path, daemon: "subprocess.Popen[bytes]") -> int:
    """Wait until the daemon has started; return its port."""
    while daemon.poll() is None:
        events = [
            json.loads(line)
            for line in (directory / "daemon.log").read_text(encoding="utf-8").splitlines()
            if line.endswith("}")
        ]
        ports = [event["port"] for event in events if event["event"] == "listening"]
        if ports and any(event["event"] == "started" for event in events):
            return int(ports[0])
        time.sleep(SAMPLE_SECONDS)
    sys.exit(f"the daemon ended with {daemon.returncode}")


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def tenth(samples: list[tuple[int, int]], number: int, num_records: int) -> float:
    """Return the median resident bytes over one tenth of the stream, counted from 0."""
    low, high = number * num_records // 10, (number + 1) * num_records // 10
    return statistics.median(size for decided, size in samples if low <= decided <= high)


if __name__ == "__main__":
    main()
