"""What does a swap cost those who predict?

Clients in one process predict as fast as they can, each its next batch when the last is answered.
Windows in which `current` moves to a new version each second alternate with windows in which it
stays, together a minute of each. Every answer is held against what the version that it names must
give for that batch.

Figures, for mode `double`, and with the prefix `in_place_` for the other mode:
  p99_ratio                 99th percentile of prediction latency, with swaps / without
  p50_ratio                 the same for the median
  p99_seconds               the 99th percentile with swaps
  swap_seconds              from noticing a version to serving it
  swap_pause_seconds        how long predictions have to wait for a swap
  failed_requests           predictions that raised, over all windows
  mixed_version_responses   answers that are not wholly those of the version that they name
  swaps                     versions that came in while clients predicted
"""

import argparse
import dataclasses
import itertools
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
from torch import Tensor

from teacherd.models.artifact import WEIGHTS, Manifest, version_folder, write_artifact
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.current_pointer import CURRENT, CurrentPointer
from teacherd.models.design import Design
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.provenance import Provenance
from teacherd.models.serving_slot import Mode

SWAP_EVERY_SECONDS = 1.0
BATCH_SIZE = 16
NUM_CLASSES = 10
NUM_WEIGHTS = 4


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
    window_seconds, repetitions = (2.0, 1) if arguments.quick else (10.0, 6)
    images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, 1, 28, 28), dtype=np.uint8)
    versions, expected = publish_versions(root, arguments.network, images)
    windows: dict[bool, list[list[float]]] = {True: [], False: []}
    swaps: list[float] = []
    pauses: list[float] = []
    failures: list[str] = []
    num_mixed: list[int] = []
    with HotTeacher(root, mode=mode, device=arguments.device, poll_seconds=0.02) as teacher:

        def window(*, has_swaps: bool) -> float:
            end = time.perf_counter() + window_seconds
            clients = [Client(teacher, images, expected, end) for _ in range(arguments.clients)]
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
            num_mixed.extend(client.num_mixed for client in clients)
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
    report.add(f"{prefix}mixed_version_responses", [sum(num_mixed)])
    report.add(f"{prefix}swaps", [len(swaps)])


class Client:
    """A thread that predicts, one batch after the other, and keeps each latency."""

    def __init__(
        self, teacher: HotTeacher, images: np.ndarray, expected: list[Tensor], end: float
    ) -> None:
        """Begin at once, and go on until the end, a reading of perf_counter."""
        self.failures: list[str] = []
        self.num_mixed = 0
        self._latencies: list[float] = []
        self._teacher = teacher
        self._images = images
        self._expected = expected
        self._end = end
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> list[float]:
        """Wait for the end and return the latencies in seconds."""
        self._thread.join()
        return self._latencies

    def _run(self) -> None:
        while (started := time.perf_counter()) < self._end:
            try:
                prediction = self._teacher.predict(self._images)
            except Exception as error:  # noqa: BLE001 - any failure is what is counted
                self.failures.append(repr(error))
                continue
            self._latencies.append(time.perf_counter() - started)
            expected = self._expected[prediction.version % len(self._expected)]
            if not torch.allclose(expected, prediction.probabilities, atol=1e-4):
                self.num_mixed += 1


def publish_versions(
    root: Path, name: str, images: np.ndarray
) -> tuple[Iterator[None], list[Tensor]]:
    """Publish a first version; return an iterator that publishes the next ones, and the answers.

    The weights are a few files with many names, so that writing them, which in life another
    process does, is no part of what is measured. Version v has the weights, and gives the
    answers, of number v modulo their count.
    """
    architecture = BackboneConfig(name=name, input_shape=(1, 28, 28))
    design = Design(
        architecture=architecture,
        classes=tuple(str(k) for k in range(NUM_CLASSES)),
        preprocessing=Preprocessing(mean=(0.3,), std=(0.3,), scale=1 / 255),
    )
    kept: list[Manifest] = []
    expected: list[Tensor] = []
    for number in range(NUM_WEIGHTS):
        torch.manual_seed(number)
        network = build_backbone(architecture, num_classes=NUM_CLASSES).eval()
        folder = root / "weights" / str(number)
        folder.mkdir(parents=True)
        provenance = Provenance(lineage="benchmark", created_at=datetime.now(UTC).isoformat())
        kept.append(write_artifact(folder, network, design, provenance))
        with torch.no_grad():
            inputs = design.preprocessing.apply(torch.from_numpy(images))
            expected.append(network(inputs).softmax(1))
    differences = [(a - b).abs().max().item() for a, b in itertools.combinations(expected, 2)]
    assert min(differences) > 1e-2, "answers that could not be told apart"
    following = _following_versions(root, kept)
    next(following)
    return following, expected


def _following_versions(root: Path, kept: list[Manifest]) -> Iterator[None]:
    for version in itertools.count(1):
        number = version % len(kept)
        manifest = dataclasses.replace(kept[number], version=version)
        folder = version_folder(root, version)
        folder.mkdir(parents=True)
        os.link(root / "weights" / str(number) / WEIGHTS, folder / WEIGHTS)
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
