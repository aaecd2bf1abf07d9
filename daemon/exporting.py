"""Handing a version to another runtime: written, loaded back there, and compared."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from teacherd.daemon.config import Config
from teacherd.daemon.durable import write_file, write_folder
from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.export_formats import (
    ONNX,
    PT2,
    SAFETENSORS,
    ExportFormat,
    require_onnx,
)
from teacherd.daemon.triton_repository import (
    CONFIG,
    LABELS,
    labels_of,
    model_config,
    model_folder,
    version_name,
)
from teacherd.daemon.version_listing import find_version
from teacherd.models.artifact import ArtifactError, LoadedTeacher, load_artifact
from teacherd.models.deployable import INPUT, OUTPUTS, is_image, sample_inputs

FormatName = Literal["safetensors", "onnx", "pt2", "triton"]

_FORMATS: dict[str, ExportFormat] = {
    "safetensors": SAFETENSORS,
    "onnx": ONNX,
    "pt2": PT2,
    "triton": ONNX,
}
_DESCRIPTION = "description.json"
_LARGEST_DIFFERENCE = 1e-3
"""Of logits, relative to the largest of them: another runtime adds up in another order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What is asked for."""

    version: int | None
    """None takes the served one."""
    format: FormatName
    out: Path
    """A folder to be made; of Triton the repository, which may be there."""
    name: str = "teacher"
    """Of the model in Triton's repository."""


def export_version(config: Config, export: Export) -> dict[str, Any]:
    """Write a version in another form, load it back and compare what it answers.

    Raises:
        UsageError: There is no such version, or the place is taken.
        StateError: The version is damaged, the disk refused, or the answers differ.
    """
    if export.format in ("onnx", "triton"):
        require_onnx()
    folder, record = find_version(config, export.version)
    place = _place(export, record.version)
    if place.exists():
        raise UsageError(f"--out: {place} is there already; name another place")
    teacher = _load(folder, record.sha256)
    description = describe_export(teacher)
    form = _FORMATS[export.format]
    differences: list[float] = []

    def fill(fresh: Path) -> None:
        path = fresh / form.file_name
        form.write(path, teacher, description)
        differences.append(_compare(form.read(path, teacher), teacher, path))
        if export.format != "triton":
            (fresh / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        else:
            # Only now: with other classes they would not fit the version that Triton has.
            _write_model_files(export, teacher, description)

    write_folder(place, fill, name="export")
    return {
        "version": record.version,
        "format": export.format,
        "path": str(place / form.file_name),
        "bytes": (place / form.file_name).stat().st_size,
        "largest_difference": differences[0],
    }


def describe_export(teacher: LoadedTeacher) -> dict[str, Any]:
    """Return what one must know to use the file, and where it comes from."""
    manifest = teacher.manifest
    return {
        "lineage": manifest.lineage,
        "epoch": manifest.epoch,
        "version": manifest.version,
        "weights_sha256": manifest.weights_sha256,
        "network": manifest.architecture.name,
        "network_arguments": dict(manifest.architecture.arguments),
        "input": INPUT,
        "input_shape": list(manifest.architecture.input_shape),
        "input_type": "uint8" if is_image(teacher) else "float32",
        "outputs": list(OUTPUTS),
        "classes": list(manifest.classes),
        "preprocessing": {
            "mean": list(manifest.preprocessing.mean),
            "std": list(manifest.preprocessing.std),
            "scale": manifest.preprocessing.scale,
            "rule": "(inputs * scale - mean) / std; included in onnx, pt2 and triton",
        },
    }


def _place(export: Export, version: int) -> Path:
    if export.format != "triton":
        return export.out
    return model_folder(export.out, export.name) / version_name(version)


def _write_model_files(export: Export, teacher: LoadedTeacher, description: dict[str, Any]) -> None:
    """Write what all versions of a Triton model share, before the version appears beside it."""
    folder = model_folder(export.out, export.name)
    write_file(folder / LABELS, labels_of(teacher).encode())
    write_file(folder / CONFIG, model_config(export.name, teacher, description).encode())


def _load(folder: Path, sha256: str) -> LoadedTeacher:
    try:
        teacher = load_artifact(folder)
    except ArtifactError as error:
        raise StateError(folder, str(error)) from error
    if teacher.manifest.weights_sha256 != sha256:
        raise StateError(folder, "has weights that are not those of the lineage log")
    return teacher


def _compare(predict: Callable[[Tensor], Tensor], teacher: LoadedTeacher, path: Path) -> float:
    """Return the largest difference of logits, for the whole batch and for one instance of it.

    Raises:
        StateError: It is larger than rounding explains.
    """
    inputs = sample_inputs(teacher)
    with torch.no_grad():
        expected = teacher.network(teacher.manifest.preprocessing.apply(inputs))
    largest = 0.0
    for part in (slice(None), slice(-1, None)):
        difference = (predict(inputs[part]) - expected[part]).abs().max().item()
        largest = max(largest, difference)
    bound = _LARGEST_DIFFERENCE * max(1.0, expected.abs().max().item())
    if not largest <= bound:
        raise StateError(
            path, f"answers otherwise when loaded back: logits differ by {largest:g}; not kept"
        )
    return largest
