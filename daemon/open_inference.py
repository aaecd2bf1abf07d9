"""The Open Inference Protocol, version 2, over HTTP: what a request asks for, and its answer.

Tensors are JSON lists, or raw bytes after the JSON (the binary tensor extension, which clients of
Triton use by default).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
from pydantic_core import from_json

from teacherd.models.artifact import Manifest
from teacherd.models.deployable import INPUT

HEADER_LENGTH = "inference-header-content-length"
PROBABILITIES = "probabilities"
LABELS = "labels"

_IMAGE_NDIM = 3
_TYPES: dict[str, type[np.generic]] = {
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_UNSUPPORTED = ("classification", "shared_memory_region")


class ProtocolError(Exception):
    """The request cannot be answered; `status` is the code of the HTTP answer."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that is wanted, and in which form."""

    name: str
    is_binary: bool
    has_classes: bool = False
    """Whether the names of its columns come with it: classes may have been added since."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a client asks for."""

    id: str | None
    inputs: np.ndarray
    """Raw uint8 or float32, as the network takes them."""
    outputs: tuple[RequestedOutput, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one version says about one request's instances."""

    version: int
    epoch: int
    classes: tuple[str, ...]
    probabilities: np.ndarray
    """Float32 [B, K]."""
    labels: tuple[str, ...]


def parse_request(body: bytes, header_length: str | None, manifest: Manifest) -> InferenceRequest:
    """Read a request for a model as the manifest describes it.

    Raises:
        ProtocolError: It is none.
    """
    header, binary = _split(body, header_length)
    try:
        # A third of the time of the standard library's, in which nothing else can be computed.
        request = from_json(header)
    except ValueError as error:
        raise ProtocolError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise ProtocolError("the request must be an object")
    inputs = _list_of_objects(request, "inputs")
    if len(inputs) != 1 or inputs[0].get("name") != INPUT:
        names = [each.get("name") for each in inputs]
        raise ProtocolError(f"inputs: {names}: must be one tensor named {INPUT!r}")
    array = _parse_tensor(inputs[0], binary)
    identity = request.get("id")
    return InferenceRequest(
        id=identity if isinstance(identity, str) and identity else None,
        inputs=_as_network_takes_it(array, manifest.architecture.input_shape),
        outputs=_parse_outputs(request),
    )


def render_answer(
    answer: Answer, request: InferenceRequest, *, model_name: str
) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of the answer."""
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for wanted in request.outputs:
        output, values, blob = _render_output(answer, wanted)
        if wanted.is_binary:
            output["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            output["data"] = values
        outputs.append(output)
    response: dict[str, Any] = {
        "model_name": model_name,
        "model_version": str(answer.version),
        "parameters": {"epoch": answer.epoch},
        "outputs": outputs,
    }
    if request.id is not None:
        response["id"] = request.id
    header = json.dumps(response, separators=(",", ":")).encode()
    if not blobs:
        return header, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join([header, *blobs]), headers


def describe_model(manifest: Manifest, *, model_name: str) -> dict[str, Any]:
    """Return the model's metadata."""
    shape = list(manifest.architecture.input_shape)
    datatype = "UINT8" if len(shape) == _IMAGE_NDIM else "FP32"
    return {
        "name": model_name,
        "versions": [str(manifest.version)],
        "platform": "teacherd_safetensors",
        "inputs": [{"name": INPUT, "datatype": datatype, "shape": [-1, *shape]}],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(manifest.classes)]},
            {"name": LABELS, "datatype": "BYTES", "shape": [-1]},
        ],
        "parameters": {
            "classes": list(manifest.classes),
            "epoch": manifest.epoch,
            "lineage": manifest.lineage,
            "weights_sha256": manifest.weights_sha256,
        },
    }


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not (header_length.isascii() and header_length.isdigit()):
        raise ProtocolError(f"{HEADER_LENGTH}: {header_length!r}: must be a number of bytes")
    length = int(header_length)
    if length > len(body):
        raise ProtocolError(f"{HEADER_LENGTH}: {length}: the request has {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def _list_of_objects(request: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = request.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ProtocolError(f"{key}: must be a list of objects")
    return value


def _parse_tensor(tensor: Mapping[str, Any], binary: memoryview) -> np.ndarray:
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    kind = _TYPES.get(datatype) if isinstance(datatype, str) else None
    if kind is None:
        raise ProtocolError(f"datatype: {datatype!r}: must be one of {', '.join(_TYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ProtocolError(f"shape: {shape!r}: must be a list of whole numbers")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        array = _from_list(tensor.get("data"), kind)
    else:
        if "data" in tensor:
            raise ProtocolError("data: must not be given beside binary_data_size")
        array = _from_bytes(binary, size, kind)
    if array.size != math.prod(shape):
        raise ProtocolError(f"shape: {shape}: has {math.prod(shape)} values, {array.size} came")
    return array.reshape(shape)


def _from_list(data: object, kind: type[np.generic]) -> np.ndarray:
    if not isinstance(data, list):
        raise ProtocolError("data: must be a list of numbers, or binary_data_size be given")
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"data: must be numbers, in rows of one length: {error}") from error
    if array.dtype.kind not in "iuf" and array.size:
        raise ProtocolError("data: must be numbers, in rows of one length")
    if issubclass(kind, np.integer) and array.size:
        limits = np.iinfo(kind)
        if array.dtype.kind == "f" or array.min() < limits.min or array.max() > limits.max:
            raise ProtocolError(
                f"data: must be whole numbers from {limits.min} to {limits.max}, as the type holds"
            )
    with np.errstate(all="ignore"):  # what overflows becomes infinite, and is refused as that
        return array.astype(kind).ravel()


def _from_bytes(binary: memoryview, size: object, kind: type[np.generic]) -> np.ndarray:
    if type(size) is not int or size != len(binary):
        raise ProtocolError(f"binary_data_size: {size!r}: {len(binary)} bytes came after the JSON")
    if size % np.dtype(kind).itemsize:
        raise ProtocolError(f"binary_data_size: {size}: is no whole number of values")
    return np.frombuffer(binary, dtype=np.dtype(kind).newbyteorder("<"))


def _as_network_takes_it(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or not len(array):
        raise ProtocolError(f"shape: {list(array.shape)}: must be {[-1, *shape]}, at least one row")
    if array.dtype == np.uint8:
        return array
    with np.errstate(all="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ProtocolError("data: holds NaN, infinity or what float32 cannot hold")
    return array


def _parse_outputs(request: Mapping[str, Any]) -> tuple[RequestedOutput, ...]:
    is_binary = _parameters(request).get("binary_data_output") is True
    wanted = _list_of_objects(request, "outputs") or [{"name": PROBABILITIES}, {"name": LABELS}]
    outputs = []
    for output in wanted:
        name, parameters = output.get("name"), _parameters(output)
        if name not in (PROBABILITIES, LABELS):
            raise ProtocolError(f"outputs: {name!r}: must be {PROBABILITIES} or {LABELS}")
        for each in _UNSUPPORTED:
            if each in parameters:
                raise ProtocolError(f"outputs.{name}.{each}: is not supported; leave it out")
        outputs.append(
            RequestedOutput(
                name,
                is_binary=parameters.get("binary_data", is_binary) is True,
                has_classes=parameters.get("classes") is True and name == PROBABILITIES,
            )
        )
    return tuple(outputs)


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ProtocolError("parameters: must be an object")
    return parameters


def _render_output(
    answer: Answer, wanted: RequestedOutput
) -> tuple[dict[str, Any], Sequence[Any], bytes]:
    """Return description, values for JSON and bytes of an output; only what is wanted is made."""
    if wanted.name == PROBABILITIES:
        array = answer.probabilities
        output: dict[str, Any] = {
            "name": PROBABILITIES,
            "datatype": "FP32",
            "shape": list(array.shape),
        }
        if wanted.has_classes:
            output["parameters"] = {"classes": list(answer.classes)}
        if wanted.is_binary:
            return output, (), array.astype("<f4", copy=False).tobytes()
        return output, array.ravel().tolist(), b""
    output = {"name": LABELS, "datatype": "BYTES", "shape": [len(answer.labels)]}
    if not wanted.is_binary:
        return output, answer.labels, b""
    texts = [label.encode() for label in answer.labels]
    return output, (), b"".join(len(text).to_bytes(4, "little") + text for text in texts)
