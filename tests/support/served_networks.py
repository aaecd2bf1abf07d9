"""Built-in networks published for tests, and the HotTeacher that serves what is published."""

import hashlib
import json
from pathlib import Path

import numpy as np
from torch import nn
from versions import Paired, point, publish

from teacherd.models.artifact import version_folder
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.current_pointer import CurrentPointer
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.serving_slot import Mode

BATCH = np.ones((2, 4), dtype=np.float32)

MODES: list[Mode] = ["double", "in_place"]


def started(root: Path, **arguments: object) -> HotTeacher:
    """A HotTeacher that watches only when it is told to: its thread sleeps."""
    teacher = HotTeacher(root, network=Paired, poll_seconds=3600.0, **arguments)
    teacher.start(timeout_seconds=0)
    return teacher


MLP = BackboneConfig(name="mlp", input_shape=(4,), arguments={"width": 8})


def mlp(num_classes: int = 3, *, fill: float | None = None) -> nn.Module:
    """A built-in network; with `fill`, every weight of its head has that value."""
    network = build_backbone(MLP, num_classes=num_classes)
    if fill is not None:
        nn.init.constant_(network.head.weight, fill)
    return network


def publish_mlp(
    root: Path, version: int, network: nn.Module | None = None, **changes: object
) -> CurrentPointer:
    """Publish a version of a built-in network."""
    return publish(root, version, network=network or mlp(), **{"architecture": MLP, **changes})


def change_manifest(root: Path, **changes: object) -> None:
    """Change the manifest of version 2 so that current agrees with it."""
    path = version_folder(root, 2) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    change_pointer(root, manifest_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def change_pointer(root: Path, **changes: object) -> None:
    """Change what current says."""
    pointer = json.loads((root / "current").read_bytes())
    point(root, json.dumps({**pointer, **changes}).encode())
