"""The layout of Triton's model repository: NAME/config.pbtxt, NAME/VERSION/model.onnx."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from teacherd.daemon.errors import UsageError
from teacherd.daemon.wording import printable
from teacherd.models.artifact import LoadedTeacher
from teacherd.models.deployable import INPUT, OUTPUTS, is_image

CONFIG = "config.pbtxt"
LABELS = "labels.txt"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MAX_BATCH_SIZE = 64


def model_folder(repository: Path, name: str) -> Path:
    """Return where a model lies in a repository.

    Raises:
        UsageError: The name is none that can be a folder's.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name: {name!r}: must be letters, digits, dots, dashes and underscores, and begin "
            "with a letter or digit"
        )
    return repository / name


def version_name(number: int) -> str:
    """Return the name of a version's folder.

    Raises:
        UsageError: Triton would not look at it.
    """
    if number == 0:
        raise UsageError("Triton ignores a version 0; export a later one, or --format onnx")
    return str(number)


def model_config(name: str, teacher: LoadedTeacher, description: Mapping[str, Any]) -> str:
    """Return the text of config.pbtxt."""
    manifest = teacher.manifest
    shape = ", ".join(map(str, manifest.architecture.input_shape))
    kind = "TYPE_UINT8" if is_image(teacher) else "TYPE_FP32"
    outputs = ",\n".join(
        f"  {{\n    name: {_quoted(output)}\n    data_type: TYPE_FP32\n"
        f"    dims: [ {len(manifest.classes)} ]\n    label_filename: {_quoted(LABELS)}\n  }}"
        for output in OUTPUTS
    )
    return f"""\
name: {_quoted(name)}
backend: "onnxruntime"
max_batch_size: {_MAX_BATCH_SIZE}
input [
  {{
    name: {_quoted(INPUT)}
    data_type: {kind}
    dims: [ {shape} ]
  }}
]
output [
{outputs}
]
dynamic_batching {{ }}
version_policy {{ latest {{ num_versions: 1 }} }}
parameters {{
  key: "teacherd"
  value {{ string_value: {_quoted(json.dumps(description))} }}
}}
"""


def labels_of(teacher: LoadedTeacher) -> str:
    """Return the text of the labels' file: one class on a line, in the order of the outputs."""
    return "".join(f"{printable(name)}\n" for name in teacher.manifest.classes)


def _quoted(text: str) -> str:
    """Return a string literal of protobuf's text format, which agrees with JSON's on ASCII."""
    return json.dumps(text)
