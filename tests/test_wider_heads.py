"""Versions with more classes than those before come in under load, and no request fails."""

import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from serving_process import ServingProcess
from versions import publish

from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.serving_slot import Mode

ARCHITECTURE = BackboneConfig(name="mlp", input_shape=(4,), arguments={"width": 16, "depth": 1})
NAMES = tuple("abcdefgh")
WIDTHS = (3, 4, 6, 6, 8, 3, 5)
"""Classes of the versions 1, 2, ...; a rollback makes them fewer again."""
NUM_CALLERS = 3
ROW = [[0.1, -0.2, 0.3, -0.4]]


def publish_version(root: Path, version: int) -> None:
    """Publish a version that is of one mind: its last class, whatever it is asked."""
    num_classes = WIDTHS[version - 1]
    network = build_backbone(ARCHITECTURE, num_classes=num_classes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head.bias[-1] = 5.0
    increments = None if num_classes == 3 else (3, num_classes - 3)
    publish(
        root,
        version,
        network=network,
        architecture=ARCHITECTURE,
        classes=NAMES[:num_classes],
        increments=increments,
    )


class Callers:
    """Ask without a pause, in threads, until told to stop; keep what does not fit together.

    Args:
        ask: Returns version, classes, number of columns, and label.
    """

    def __init__(self, ask: Callable[[], tuple[int, tuple[str, ...], int, str]]) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(NUM_CALLERS)]
        self.failures: list[str] = []
        self.versions: set[int] = set()
        self.num_answers = itertools.count()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                version, classes, columns, label = self._ask()
            except Exception as error:  # noqa: BLE001 (each is a failed request)
                self.failures.append(repr(error))
                continue
            next(self.num_answers)
            self.versions.add(version)
            expected = NAMES[: WIDTHS[version - 1]]
            if (classes, columns, label) != (expected, len(expected), expected[-1]):
                self.failures.append(f"version {version}: {classes}, {columns}, {label}")


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what others do."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@pytest.mark.parametrize("mode", ["double", "in_place"])
def test_a_hot_teacher_swaps_to_a_wider_head(tmp_path: Path, mode: Mode) -> None:
    """Each prediction has names, columns and labels of one version, and none fails."""
    publish_version(tmp_path, 1)
    inputs = np.array(ROW, dtype=np.float32)
    with HotTeacher(tmp_path, mode=mode, poll_seconds=0.01) as teacher:

        def ask() -> tuple[int, tuple[str, ...], int, str]:
            found = teacher.predict(inputs)
            return found.version, found.classes, found.probabilities.shape[1], found.labels[0]

        with Callers(ask) as callers:
            for version in range(2, len(WIDTHS) + 1):
                publish_version(tmp_path, version)
                wait_for(lambda version=version: version in callers.versions)

        assert NAMES[: WIDTHS[-1]] == teacher.classes
    assert [] == callers.failures
    assert set(range(1, len(WIDTHS) + 1)) == callers.versions


def test_the_inference_server_swaps_to_a_wider_head(tmp_path: Path) -> None:
    """Asked over HTTP the whole time; metadata and answers have the classes of their version."""
    root = tmp_path / "root"
    publish_version(root, 1)
    question = {
        "inputs": [{"name": "inputs", "datatype": "FP32", "shape": [1, 4], "data": ROW}],
        "outputs": [
            {"name": "probabilities", "parameters": {"classes": True}},
            {"name": "labels"},
        ],
    }
    body = json.dumps(question).encode()
    with ServingProcess(tmp_path, root).wait_until_ready() as server:
        url = f"http://{server.address}/v2/models/teacher/infer"

        def ask() -> tuple[int, tuple[str, ...], int, str]:
            with urllib.request.urlopen(url, data=body, timeout=300) as answer:
                found = json.load(answer)
            probabilities, labels = found["outputs"]
            classes = tuple(probabilities["parameters"]["classes"])
            width = probabilities["shape"][1]
            return int(found["model_version"]), classes, width, labels["data"][0]

        with Callers(ask) as callers:
            for version in range(2, len(WIDTHS) + 1):
                publish_version(root, version)
                wait_for(lambda version=version: version in callers.versions)
        _, metadata = server.get("/v2/models/teacher")

    assert [] == callers.failures
    assert list(NAMES[: WIDTHS[-1]]) == metadata["parameters"]["classes"]
    assert [-1, WIDTHS[-1]] == metadata["outputs"][0]["shape"]
