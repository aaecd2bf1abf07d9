"""The forms in which a version leaves for other runtimes, and how each is read back.

Each writer puts one file into a folder; each reader returns a function from raw inputs to logits,
computed by the other runtime. The libraries are imported by those who ask for their format.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from teacherd.daemon.errors import UsageError
from teacherd.models.artifact import LoadedTeacher, build_network
from teacherd.models.deployable import INPUT, OUTPUTS, Deployable, sample_inputs
from teacherd.models.weights import fill_network, serialize_weights

Predict = Callable[[Tensor], Tensor]

_METADATA = "teacherd"
_DESCRIPTION = "teacherd.json"


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One form: its file, how it is written and how it is read back."""

    file_name: str
    write: Callable[[Path, LoadedTeacher, Mapping[str, Any]], None]
    read: Callable[[Path, LoadedTeacher], Predict]


def require_onnx() -> None:
    """See that the libraries for ONNX are here, before long work.

    Raises:
        UsageError: They are not installed.
    """
    try:
        import onnx  # noqa: F401, PLC0415 (only who exports needs them)
        import onnxruntime  # noqa: F401, PLC0415 (as above)
        import onnxscript  # noqa: F401, PLC0415 (as above)
    except ImportError as error:
        raise UsageError(
            f"--format: onnx needs packages that are not installed ({error}); "
            "pip install 'teacherd[export]'"
        ) from error


def _write_safetensors(path: Path, teacher: LoadedTeacher, description: Mapping[str, Any]) -> None:
    tensors = load(serialize_weights(teacher.network))
    path.write_bytes(save(tensors, metadata={_METADATA: json.dumps(description)}))


def _read_safetensors(path: Path, teacher: LoadedTeacher) -> Predict:
    network = build_network(path.parent, teacher.manifest)
    fill_network(network, load(path.read_bytes()))
    preprocessing = teacher.manifest.preprocessing

    def predict(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(preprocessing.apply(inputs))
        return logits

    return predict


def _program(teacher: LoadedTeacher) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(
            Deployable(teacher),
            (sample_inputs(teacher),),
            dynamic_shapes={INPUT: {0: batch}},
        )


def _write_pt2(path: Path, teacher: LoadedTeacher, description: Mapping[str, Any]) -> None:
    extra = {_DESCRIPTION: json.dumps(description)}
    torch.export.save(_program(teacher), path, extra_files=extra)


def _read_pt2(path: Path, _: LoadedTeacher) -> Predict:
    module = torch.export.load(path).module()

    def predict(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(inputs)[0]
        return logits

    return predict


def _write_onnx(path: Path, teacher: LoadedTeacher, description: Mapping[str, Any]) -> None:
    require_onnx()
    program = torch.onnx.export(
        _program(teacher),
        (),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "with dynamo=True there is a program"
    program.model.metadata_props[_METADATA] = json.dumps(description)
    program.save(path)


def _read_onnx(path: Path, _: LoadedTeacher) -> Predict:
    require_onnx()
    import onnx  # noqa: PLC0415 (as above)
    import onnxruntime  # noqa: PLC0415 (as above)

    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(inputs: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUTS[0]], {INPUT: inputs.numpy()})
        return torch.from_numpy(logits)

    return predict


SAFETENSORS = ExportFormat("model.safetensors", _write_safetensors, _read_safetensors)
PT2 = ExportFormat("model.pt2", _write_pt2, _read_pt2)
ONNX = ExportFormat("model.onnx", _write_onnx, _read_onnx)
