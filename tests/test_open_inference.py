"""The protocol's messages: what is asked for is understood exactly, everything else refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from versions import CREATED_AT

from teacherd.daemon.open_inference import (
    Answer,
    ProtocolError,
    describe_model,
    parse_request,
    render_answer,
)
from teacherd.models.artifact import Manifest
from teacherd.models.backbone import BackboneConfig
from teacherd.models.preprocessing import Preprocessing


def manifest(input_shape: tuple[int, ...] = (4,)) -> Manifest:
    """A manifest of a network for such inputs."""
    return Manifest(
        lineage="abc",
        epoch=2,
        version=7,
        architecture=BackboneConfig(name="mlp", input_shape=input_shape),
        classes=("a", "b", "c"),
        preprocessing=Preprocessing(
            mean=(0.0,) * input_shape[0], std=(1.0,) * input_shape[0], scale=1.0
        ),
        sigma=None,
        weights_sha256="0" * 64,
        weights_bytes=1,
        parent=None,
        tasks=(),
        verdict={},
        metrics={},
        created_at=CREATED_AT.isoformat(),
        torch=torch.__version__,
    )


VECTORS, IMAGES = manifest(), manifest((1, 2, 2))


def request(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 (JSON)
    """A good request for two vectors, with some things changed about its tensor."""
    tensor = {"name": "inputs", "datatype": "FP32", "shape": [2, 4], "data": [0.5] * 8}
    tensor |= changes
    return {"inputs": [{name: value for name, value in tensor.items() if value is not None}]}


def parse(body: dict[str, Any], of: Manifest = VECTORS, binary: bytes | None = None) -> Any:  # noqa: ANN401 (what is parsed)
    """Parse a request, with bytes after the JSON where they are given."""
    header = json.dumps(body).encode()
    if binary is None:
        return parse_request(header, None, of)
    return parse_request(header + binary, str(len(header)), of)


@pytest.mark.parametrize("data", [[0, 1, 2, 3, 4, 5, 6, 7], [[0, 1, 2, 3], [4, 5, 6, 7]]])
def test_numbers_may_be_flat_or_in_rows(data: list[object]) -> None:
    """The protocol allows both."""
    parsed = parse(request(data=data))

    assert np.float32 == parsed.inputs.dtype
    np.testing.assert_array_equal(np.arange(8).reshape(2, 4), parsed.inputs)


@pytest.mark.parametrize(
    ("datatype", "kind", "of"),
    [
        ("FP32", "<f4", VECTORS),
        ("FP64", "<f8", VECTORS),
        ("FP16", "<f2", VECTORS),
        ("INT64", "<i8", VECTORS),
        ("UINT8", "<u1", VECTORS),
    ],
)
def test_bytes_after_the_json_are_the_same_numbers(datatype: str, kind: str, of: Manifest) -> None:
    """Little-endian, of any type; uint8 stays, the rest becomes float32."""
    values = np.arange(8).reshape(2, 4)
    raw = values.astype(kind).tobytes()
    body = request(datatype=datatype, data=None, parameters={"binary_data_size": len(raw)})

    parsed = parse(body, of, raw)

    np.testing.assert_array_equal(values, parsed.inputs)
    assert (np.uint8 if datatype == "UINT8" else np.float32) == parsed.inputs.dtype


def test_images_have_their_own_shape() -> None:
    """Uint8 as they came in the stream."""
    body = request(datatype="UINT8", shape=[3, 1, 2, 2], data=list(range(12)))

    assert (3, 1, 2, 2) == parse(body, IMAGES).inputs.shape


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "must be an object"),
        ({}, "must be one tensor named 'inputs'"),
        ({"inputs": {}}, "inputs: must be a list of objects"),
        ({"inputs": [1]}, "inputs: must be a list of objects"),
        (request(name="images"), r"inputs: \['images'\]"),
        ({"inputs": request()["inputs"] * 2}, "must be one tensor"),
        (request(datatype="BYTES"), "datatype: 'BYTES'"),
        (request(datatype=["FP32"]), "datatype"),
        (request(shape=[2, 3]), "has 6 values, 8 came"),
        (request(shape=[8]), r"must be \[-1, 4\]"),
        (request(shape=[2, 2, 2]), r"must be \[-1, 4\]"),
        (request(shape=[0, 4], data=[]), "at least one row"),
        (request(shape=[-2, -4]), "list of whole numbers"),
        (request(shape=[2.0, 4]), "list of whole numbers"),
        (request(shape=[True, 8]), "list of whole numbers"),
        (request(shape="24"), "list of whole numbers"),
        (request(shape=[10**30, 10**30]), "values, 8 came"),
        (request(data=None), "data: must be a list"),
        (request(data="12345678"), "data: must be a list"),
        (request(data=["a"] * 8), "data: must be numbers"),
        (request(data=[[1, 2], [3]]), "data: must be numbers"),
        (request(data=[{}] * 8), "data: must be numbers"),
        (request(data=[None] * 8), "data: must be numbers"),
        (request(data=[1e300] * 8, datatype="FP64"), "NaN, infinity"),
        (request(data=[10**30] * 8), "data: must be numbers"),
        (request(data=[True] * 8), "data: must be numbers"),
        (request(data=[256] * 8, datatype="UINT8"), "whole numbers from 0 to 255"),
        (request(data=[-1] * 8, datatype="UINT8"), "whole numbers from 0 to 255"),
        (request(data=[0.5] * 8, datatype="INT64"), "whole numbers"),
        (request(parameters=3), "parameters: must be an object"),
        (request(parameters={"binary_data_size": 8}), "beside binary_data_size"),
        (request(data=None, parameters={"binary_data_size": 8}), "0 bytes came"),
        (request(data=None, parameters={"shared_memory_region": "x"}), "data: must be"),
        ({**request(), "outputs": [{"name": "logits"}]}, "outputs: 'logits'"),
        ({**request(), "outputs": "labels"}, "outputs: must be a list"),
        (
            {**request(), "outputs": [{"name": "labels", "parameters": {"classification": 2}}]},
            "classification: is not supported",
        ),
    ],
)
def test_what_is_no_request_is_refused_in_words(body: Any, message: str) -> None:  # noqa: ANN401 (JSON)
    """The message names key, value and rule; the answer is 400."""
    with pytest.raises(ProtocolError, match=message) as raised:
        parse(body)

    assert 400 == raised.value.status


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (b"{", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"{}", "3", "3: the request has 2 bytes"),
        (b"{}", "-1", "must be a number"),
        (b"{}", "two", "must be a number"),
        (b"{}", "\u0662", "must be a number"),
    ],
)
def test_a_body_that_cannot_be_split_or_read_is_refused(
    body: bytes, length: str | None, message: str
) -> None:
    """However deep or strange."""
    with pytest.raises(ProtocolError, match=message):
        parse_request(body, length, VECTORS)


@pytest.mark.parametrize("size", [31, 33, "32", True, -1, 10**30])
def test_a_wrong_number_of_bytes_is_refused(size: object) -> None:
    """Neither more nor fewer than came."""
    with pytest.raises(ProtocolError, match="binary_data_size"):
        parse(request(data=None, parameters={"binary_data_size": size}), binary=b"x" * 32)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "name", "shape", "datatype", "data", "parameters", "outputs"]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(body=JSON, binary=st.none() | st.binary(max_size=40))
def test_no_request_whatever_breaks_the_parser(body: Any, binary: bytes | None) -> None:  # noqa: ANN401 (JSON)
    """It is parsed or refused; nothing else comes out."""
    try:
        parsed = parse(body, binary=binary)
    except ProtocolError:
        return
    assert (4,) == parsed.inputs.shape[1:]


@given(
    shape=JSON, data=JSON, datatype=st.sampled_from(["FP32", "UINT8", "FP64", "INT8", "x"]) | JSON
)
def test_no_tensor_whatever_breaks_the_parser(shape: Any, data: Any, datatype: Any) -> None:  # noqa: ANN401 (JSON)
    """As above, nearer to good ones."""
    try:
        parsed = parse(request(shape=shape, data=data, datatype=datatype))
    except ProtocolError:
        return
    assert np.isfinite(parsed.inputs).all()


ANSWER = Answer(
    version=7,
    epoch=2,
    classes=("a", "b", "\u00e9"),
    probabilities=np.array([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]], dtype=np.float32),
    labels=("\u00e9", "a"),
)


def test_an_answer_as_json_names_its_version() -> None:
    """Both outputs, flat, with the id of the request."""
    asked = parse({**request(), "id": "42"})

    body, headers = render_answer(ANSWER, asked, model_name="teacher")

    assert {"content-type": "application/json"} == headers
    assert {
        "model_name": "teacher",
        "model_version": "7",
        "parameters": {"epoch": 2},
        "id": "42",
        "outputs": [
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [2, 3],
                "data": [0.25, 0.25, 0.5, 1.0, 0.0, 0.0],
            },
            {"name": "labels", "datatype": "BYTES", "shape": [2], "data": ["\u00e9", "a"]},
        ],
    } == json.loads(body)


def test_an_answer_in_bytes_has_them_in_the_order_of_the_outputs() -> None:
    """Strings with their length before them; sizes in the JSON, its length in a header."""
    outputs = [
        {"name": "labels", "parameters": {"binary_data": True}},
        {"name": "probabilities", "parameters": {"binary_data": True}},
    ]
    body, headers = render_answer(
        ANSWER, parse({**request(), "outputs": outputs}), model_name="teacher"
    )

    length = int(headers["inference-header-content-length"])
    described = json.loads(body[:length])["outputs"]
    labels = b"\x02\0\0\0\xc3\xa9\x01\0\0\0a"
    assert labels + ANSWER.probabilities.tobytes() == body[length:]
    assert [len(labels), 24] == [each["parameters"]["binary_data_size"] for each in described]
    assert "data" not in described[0]


def test_bytes_may_be_asked_for_as_a_whole_and_refused_for_one() -> None:
    """An output's own word weighs more."""
    outputs = [{"name": "labels", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    whole = parse({**request(), "parameters": {"binary_data_output": True}})
    mixed = parse({**request(), "parameters": {"binary_data_output": True}, "outputs": outputs})

    assert [True, True] == [output.is_binary for output in whole.outputs]
    assert [False, True] == [output.is_binary for output in mixed.outputs]


def test_the_model_describes_itself() -> None:
    """Type and shape of what goes in and comes out, and the classes."""
    described = describe_model(IMAGES, model_name="teacher")

    assert ("teacher", ["7"]) == (described["name"], described["versions"])
    assert [{"name": "inputs", "datatype": "UINT8", "shape": [-1, 1, 2, 2]}] == described["inputs"]
    assert [[-1, 3], [-1]] == [output["shape"] for output in described["outputs"]]
    assert ["a", "b", "c"] == described["parameters"]["classes"]
    assert "FP32" == describe_model(VECTORS, model_name="m")["inputs"][0]["datatype"]
    assert math.prod(described["inputs"][0]["shape"]) == -4
