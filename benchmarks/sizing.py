"""How much memory and time does a daemon need? Measured for three networks, a process each.

A real daemon learns two tasks of noise, with the defaults but for fewer epochs (5, with one
consolidation) and, for the larger networks, smaller tasks. The time grows with instances times
epochs, so that other settings follow. The second task is the one that is measured.
For each of `small_cnn` (1x28x28), `resnet18` (3x32x32) and `mobilenet_v3_small` (3x224x224):

    NAME_parameters                  of the network, with 10 classes
    NAME_version_mb                  a published version on the disk
    NAME_checkpoint_mb               a checkpoint inside a task on the disk
    NAME_ready_mb                    resident memory when it is ready, before the first record
    NAME_peak_mb                     most resident memory it ever had
    NAME_seconds_per_task            of the second task, measurement and publication included
    NAME_cpu_seconds_per_task        of the process meanwhile: on a machine that does other things
                                     too, this is what a quiet one would take with one thread
    NAME_ms_per_instance_and_epoch   of these CPU seconds
    NAME_start_seconds               from the start of the process to ready
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from report import Report, parse_arguments, progress

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.base_model import write_base
from teacherd.daemon.status_client import fetch_status
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.design import Design
from teacherd.models.preprocessing import Preprocessing

NUM_CLASSES = 10
NUM_TASKS = 2
EPOCHS = 5
POLL_SECONDS = 0.2
MB = 1e6
SUBJECTS: tuple[tuple[str, tuple[int, int, int], int], ...] = (
    ("small_cnn", (1, 28, 28), 2000),
    ("resnet18", (3, 32, 32), 128),
    ("mobilenet_v3_small", (3, 224, 224), 128),
)
"""Network, shape of its inputs, and instances of a task."""


@dataclass(frozen=True)
class Size:
    """What one daemon took."""

    ready_bytes: int
    peak_bytes: int
    checkpoint_bytes: int
    version_bytes: int
    task_seconds: float
    cpu_seconds: float
    num_instances: int
    start_seconds: float


def main() -> None:
    """Measure each network and report."""
    arguments = parse_arguments(__doc__, add_options)
    torch.set_num_threads(arguments.threads)
    report = Report("sizing", arguments)
    for name, shape, count in SUBJECTS[:1] if arguments.quick else SUBJECTS:
        num_instances = 64 if arguments.quick else count
        progress(f"{name} {shape}: {NUM_TASKS} tasks of {num_instances}")
        with tempfile.TemporaryDirectory() as folder:
            num_parameters = write_model(Path(folder), name, shape)
            write_config(Path(folder), arguments, num_instances)
            append_noise(Path(folder), shape, NUM_TASKS * num_instances)
            size = run(Path(folder))
        report.add(f"{name}_parameters", [num_parameters])
        report.add(f"{name}_version_mb", [size.version_bytes / MB])
        report.add(f"{name}_checkpoint_mb", [size.checkpoint_bytes / MB])
        report.add(f"{name}_ready_mb", [size.ready_bytes / MB])
        report.add(f"{name}_peak_mb", [size.peak_bytes / MB])
        report.add(f"{name}_seconds_per_task", [size.task_seconds])
        report.add(f"{name}_cpu_seconds_per_task", [size.cpu_seconds])
        unit = size.cpu_seconds / size.num_instances / EPOCHS
        report.add(f"{name}_ms_per_instance_and_epoch", [1000 * unit])
        report.add(f"{name}_start_seconds", [size.start_seconds])
    report.close()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the number of threads be set."""
    parser.add_argument("--threads", type=int, default=1, help="of torch, in the daemon")


def write_model(directory: Path, name: str, shape: tuple[int, int, int]) -> int:
    """Make version 0 with fresh weights; return its number of parameters."""
    architecture = BackboneConfig(name=name, input_shape=shape)
    torch.manual_seed(0)
    network = build_backbone(architecture, num_classes=NUM_CLASSES)
    design = Design(
        architecture=architecture,
        classes=tuple("0123456789"),
        preprocessing=Preprocessing(mean=(0.5,) * shape[0], std=(0.25,) * shape[0], scale=1 / 255),
    )
    write_base(directory / "base", network, design, metrics={})
    return sum(each.numel() for each in network.parameters())


def write_config(directory: Path, arguments: argparse.Namespace, num_instances: int) -> None:
    """Write what differs from the defaults."""
    settings: dict[str, Any] = {
        "process": {"device": arguments.device, "num_threads": arguments.threads},
        "tasks": {"instances": num_instances, "min_instances": 1},
        "learning": {
            "epochs": EPOCHS,
            "consolidation": {"freezing_epochs": 1, "interval_epochs": 4},
        },
        "checkpoints": {"interval_steps": 4},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def append_noise(directory: Path, shape: tuple[int, int, int], count: int) -> None:
    """Append records of noise: what they show costs nothing, only their number and size."""
    rng = np.random.default_rng(0)
    log = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
    for number in range(count):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        log.append([build_record(encode_npy(image), content_type=NPY, label=number % NUM_CLASSES)])
    log.close()


def run(directory: Path) -> Size:
    """Let a daemon learn all of it, and look at it meanwhile."""
    command = [sys.executable, "-m", "teacherd.daemon", "run", "--config", "config.yaml"]
    started = time.monotonic()
    with (directory / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, cwd=directory, stderr=log)
    try:
        wait_for(directory, daemon, "started", 1)
        start_seconds = time.monotonic() - started
        ready_bytes = memory_of(daemon.pid, "VmRSS")
        checkpoint_bytes = 0
        cpu_seconds = {0: 0.0}
        while max(cpu_seconds) < NUM_TASKS:
            if daemon.poll() is not None:
                sys.exit(f"the daemon ended: {(directory / 'daemon.log').read_text()[-2000:]}")
            checkpoint_bytes = max(checkpoint_bytes, largest_checkpoint(directory))
            cpu_seconds.setdefault(len(events(directory, "task_closed")), cpu_of(daemon.pid))
            time.sleep(POLL_SECONDS)
        peak_bytes = memory_of(daemon.pid, "VmHWM")
        (port,) = [event["port"] for event in events(directory, "listening")]
        progress(fetch_status(f"http://127.0.0.1:{port}")["headline"])
    finally:
        daemon.terminate()
        daemon.wait()
    closed, planned = events(directory, "task_closed")[-1], events(directory, "task_planned")[-1]
    versions = sorted((directory / "state" / "public" / "versions").iterdir())
    return Size(
        ready_bytes=ready_bytes,
        peak_bytes=peak_bytes,
        checkpoint_bytes=checkpoint_bytes,
        version_bytes=folder_bytes(versions[-1]),
        task_seconds=closed["duration_seconds"],
        cpu_seconds=cpu_seconds[NUM_TASKS] - cpu_seconds[NUM_TASKS - 1],
        num_instances=planned["instances"],
        start_seconds=start_seconds,
    )


def wait_for(directory: Path, daemon: "subprocess.Popen[bytes]", name: str, count: int) -> None:
    """Wait until an event has come so many times."""
    while len(events(directory, name)) < count:
        if daemon.poll() is not None:
            sys.exit(f"the daemon ended: {(directory / 'daemon.log').read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)


def events(directory: Path, name: str) -> list[dict[str, Any]]:
    """Return the events of one name."""
    lines = (directory / "daemon.log").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [event for event in found if event["event"] == name]


def memory_of(pid: int, field: str) -> int:
    """Return one of a process's figures of memory, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in text.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def largest_checkpoint(directory: Path) -> int:
    """Return the size of the largest checkpoint that is there now."""
    folders = (directory / "state" / "checkpoints").glob("[0-9]*")
    return max((folder_bytes(folder) for folder in folders), default=0)


def folder_bytes(folder: Path) -> int:
    """Return the size of a folder's files; one that goes meanwhile counts nothing."""
    try:
        return sum(each.stat().st_size for each in folder.iterdir())
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    main()
