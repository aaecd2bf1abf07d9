"""What does a swap cost those who predict?

Clients in one process predict as fast as they can. Windows in which `current` moves to a new
version each second alternate with windows in which it stays.

Figures, for mode `double`, and with the prefix `in_place_` for the other mode:
  p99_ratio           99th percentile of prediction latency, with swaps / without
  p50_ratio           the same for the median
  p99_seconds         the 99th percentile with swaps
  swap_seconds        from noticing a version to serving it
  swap_pause_seconds  how long predictions have to wait for a swap
  failed_requests     predictions that raised, over all windows
"""

import argparse
import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from report import Report, alternate, parse_arguments, progress

from teacherd.models.artifact import WEIGHTS, Manifest, version_folder, write_artifact
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.current_pointer import CURRENT, CurrentPointer
from teacherd.models.design import Design
from teacherd.models.hot_teacher import HotTeacher, Mode
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.provenance import Provenance

SWAP_EVERY_SECONDS = 1.0
BATCH_SIZE = 16
NUM_CLASSES = 10


def main() -> None:
    """Measure both modes."""
    arguments = parse_arguments(__doc__, add_arguments)
    torch.set_num_threads(1)
    report = Report("hot_swap", arguments)
    for mode in ("double", "in_place"):
        with tempfile.TemporaryDirectory() as folder:
            measure(mode, Path(folder), arguments, report)
    report.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let the load be chosen."""
    parser.add_argument("--network", default="small_cnn", help="any backbone for 1x28x28 images")
    parser.add_argument("--clients", type=int, default=2, help="threads that predict")


def measure(mode: Mode, root: Path, arguments: argparse.Namespace, report: Report) -> None:
    """Put one mode's figures into the report."""
    window_seconds, repetitions = (2.0, 1) if arguments.quick else (10.0, 5)
    versions = publish_versions(root, arguments.network)
    windows: dict[bool, list[list[float]]] = {True: [], False: []}
    swaps: list[float] = []
    pauses: list[float] = []
    failures: list[str] = []
    with HotTeacher(root, mode=mode, device=arguments.device, poll_seconds=0.02) as teacher:

        def window(*, has_swaps: bool) -> float:
            end = time.perf_counter() + window_seconds
            clients = [Client(teacher, end) for _ in range(arguments.clients)]
            while time.perf_counter() < end:
                if has_swaps:
                    num_swaps = teacher.stats.swaps
                    next(versions)
                    while teacher.stats.swaps == num_swaps:
                        time.sleep(0.01)
                    swaps.append(teacher.stats.last_swap_seconds or 0.0)
                    pauses.append(teacher.stats.last_pause_seconds or 0.0)
                time.sleep(SWAP_EVERY_SECONDS)
            latencies = [latency for client in clients for latency in client.finish()]
            failures.extend(failure for client in clients for failure in client.failures)
            windows[has_swaps].append(latencies)
            return float(np.quantile(latencies, 0.99))

        ours, reference = alternate(
            lambda: window(has_swaps=True),
            lambda: window(has_swaps=False),
            repetitions=repetitions,
        )
    prefix = "" if mode == "double" else "in_place_"
    progress(f"{mode}: {sum(map(len, windows[True]))} predictions, {len(swaps)} swaps")
    medians = {kind: [float(np.median(w)) for w in kept[1:]] for kind, kept in windows.items()}
    report.add_ratio(f"{prefix}p99_ratio", ours, reference)
    report.add_ratio(f"{prefix}p50_ratio", medians[True], medians[False])
    report.add(f"{prefix}p99_seconds", ours)
    report.add(f"{prefix}swap_seconds", swaps)
    report.add(f"{prefix}swap_pause_seconds", pauses)
    report.add(f"{prefix}failed_requests", [len(failures)])


class Client:
    """A thread that predicts, one batch after the other, and keeps each latency."""

    def __init__(self, teacher: HotTeacher, end: float) -> None:
        """Begin at once, and go on until the end, a reading of perf_counter."""
        self.failures: list[str] = []
        self._latencies: list[float] = []
        self._teacher = teacher
        self._end = end
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> list[float]:
        """Wait for the end and return the latencies in seconds."""
        self._thread.join()
        return self._latencies

    def _run(self) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (BATCH_SIZE, 1, 28, 28), dtype=np.uint8)
        while (started := time.perf_counter()) < self._end:
            try:
                self._teacher.predict(images)
            except Exception as error:  # noqa: BLE001 - any failure is what is counted
                self.failures.append(repr(error))
            self._latencies.append(time.perf_counter() - started)


def publish_versions(root: Path, name: str) -> Iterator[None]:
    """Publish version 1 and return an iterator of which each step publishes the next one.

    The weights of all are one file with many names, so that writing them, which in life another
    process does, is no part of what is measured.
    """
    architecture = BackboneConfig(name=name, input_shape=(1, 28, 28))
    first = version_folder(root, 1)
    first.mkdir(parents=True)
    manifest = write_artifact(
        first,
        build_backbone(architecture, num_classes=NUM_CLASSES),
        Design(
            architecture=architecture,
            classes=tuple(str(k) for k in range(NUM_CLASSES)),
            preprocessing=Preprocessing(mean=(0.3,), std=(0.3,), scale=1 / 255),
        ),
        Provenance(lineage="benchmark", version=1, created_at=datetime.now(UTC).isoformat()),
    )
    point(root, manifest)
    return _following_versions(root, manifest)


def _following_versions(root: Path, first: Manifest) -> Iterator[None]:
    version = first.version
    while True:
        version += 1
        manifest = dataclasses.replace(first, version=version)
        folder = version_folder(root, version)
        folder.mkdir()
        os.link(version_folder(root, first.version) / WEIGHTS, folder / WEIGHTS)
        (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        point(root, manifest)
        yield


def point(root: Path, manifest: Manifest) -> None:
    """Replace `current` by rename."""
    temporary = root / ".tmp-current"
    temporary.write_bytes(CurrentPointer.to(root, manifest).to_bytes())
    temporary.replace(root / CURRENT)


if __name__ == "__main__":
    main()
