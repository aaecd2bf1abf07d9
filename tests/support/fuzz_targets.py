"""Every reader of what strangers send, with good inputs, and the only ways in which it may end.

A target's `read` returns a word for what became of an input, and raises what is not foreseen.
"""

import base64
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import yaml
from records import JPEG, LABEL, WEBP, at_offsets, color_image, encode_image, picture

from teacherd.consumers.decoding import JSON, NPY, Decoder, DecodingConfig
from teacherd.consumers.headers import HeadersError, pack_headers, unpack_headers
from teacherd.consumers.instance import MAX_MESSAGE_CHARACTERS, REASONS, Instance, Rejected
from teacherd.consumers.producing import PNG, build_record, encode_npy, encode_png
from teacherd.consumers.record import NewRecord
from teacherd.daemon.commands import parse_command
from teacherd.daemon.config import load_config
from teacherd.daemon.errors import ConfigurationError, UsageError
from teacherd.daemon.open_inference import ProtocolError, parse_request
from teacherd.daemon.posted_instances import RefusedPostError, read_posted
from teacherd.models.artifact import ArtifactError, Manifest, verify_manifest
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.current_pointer import CurrentPointer
from teacherd.models.strict_json import StrictJsonError
from teacherd.models.weights import (
    WeightsError,
    deserialize_weights,
    fill_network,
    serialize_weights,
)

KEYS_OF_A_PIECE = 4
MOST_CHARACTERS = 2000
"""Of a message that a person reads."""
ROOT = Path(__file__).parents[2]
LIMITS = DecodingConfig(max_record_bytes=1 << 20, max_pixels=1 << 20, num_threads=1)
SHAPES = ((3, 32, 32), (1, 8, 8), (5,))
IMAGES = ("png", "jpeg", "webp")
DIGITS = tuple("0123456789")
NETWORK = BackboneConfig(name="mlp", input_shape=(4,), arguments={"width": 4})
MANIFEST = {
    "format": 1,
    "lineage": "abc",
    "epoch": 1,
    "version": 2,
    "architecture": {"name": "mlp", "input_shape": [4], "arguments": {"width": 4}},
    "classes": ["a", "b"],
    "preprocessing": {"mean": [0.0] * 4, "std": [1.0] * 4, "scale": 1.0},
    "sigma": 0.25,
    "weights_sha256": "0" * 64,
    "weights_bytes": 1,
    "parent": 1,
    "tasks": [1],
    "verdict": {"gate": "passed", "figures": {"a": [1, 2.5]}},
    "metrics": {"accuracy": 0.5},
    "created_at": "2026-01-02T03:04:05+00:00",
    "torch": "2.6.0",
}
POINTER = {"epoch": 1, "version": 2, "folder": "versions/000002", "manifest_sha256": "0" * 64}


@dataclass(frozen=True)
class Target:
    """A reader, and good inputs for it."""

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[bytes], str]


def targets() -> Iterator[Target]:
    """Yield all of them."""
    yield from _decoders()
    yield Target("headers", _packed_headers(), _read_headers)
    yield Target("manifest", (json.dumps(MANIFEST, indent=2).encode(),), _read_manifest)
    yield Target("pointer", (json.dumps(POINTER).encode(),), _read_pointer)
    yield _weights()
    yield _config()
    yield Target("posted", _posts(), _read_post)
    yield _inference()
    yield Target("command", (b'{"verb": "rollback", "number": 3}',), _read_command)


def _unforeseen(error: Exception) -> NoReturn:
    raise AssertionError from error


def _decoders() -> Iterator[Target]:
    made = [Decoder(LIMITS, input_shape=shape, classes=DIGITS) for shape in SHAPES]
    for name, content_type, seeds in (
        ("png", PNG, tuple(_pngs())),
        ("jpeg", JPEG, tuple(_jpegs())),
        ("webp", WEBP, tuple(_webps())),
        ("npy", NPY, tuple(_arrays())),
        ("json", JSON, tuple(_bodies())),
    ):
        # A network of features refuses an image unread.
        yield Target(name, seeds, _reader(made[:2] if name in IMAGES else made, content_type))


def _reader(made: list[Decoder], content_type: str) -> Callable[[bytes], str]:
    def read(data: bytes) -> str:
        which = len(data) % len(made)
        record = build_record(data, content_type=content_type, label=LABEL)
        (result,) = made[which].decode_batch(at_offsets([record]))
        return _word(result, SHAPES[which])

    return read


def _word(result: Instance | Rejected, shape: tuple[int, ...]) -> str:
    """Return what became of a record, which can only be one of two things."""
    if isinstance(result, Rejected):
        assert result.reason in REASONS
        assert len(result.message) <= MAX_MESSAGE_CHARACTERS
        return result.reason
    assert shape == result.array.shape
    assert result.array.dtype in (np.uint8, np.float32)
    assert np.isfinite(result.array).all()
    assert 0 <= result.label < len(DIGITS)
    return "read"


def _pngs() -> Iterator[bytes]:
    yield encode_png(color_image(1, side=8))
    small = picture(2, side=9)
    for mode in ("L", "P", "LA", "RGBA", "1", "I;16"):
        yield encode_image(
            small.convert("L").convert(mode) if mode == "I;16" else small.convert(mode), "PNG"
        )
    yield encode_image(small, "PNG", dpi=(72, 72), icc_profile=b"x" * 200, interlace=1)
    frames = [picture(seed, side=8) for seed in range(3)]
    yield encode_image(frames[0], "PNG", save_all=True, append_images=frames[1:])


def _jpegs() -> Iterator[bytes]:
    small = picture(3, side=16)
    yield encode_image(small, "JPEG")
    yield encode_image(small, "JPEG", progressive=True, quality=30)
    yield encode_image(small.convert("L"), "JPEG", restart_marker_blocks=1)
    yield encode_image(small.convert("CMYK"), "JPEG", exif=b"Exif\0\0" + b"MM\0*" + bytes(20))


def _webps() -> Iterator[bytes]:
    small = picture(4, side=12)
    yield encode_image(small, "WEBP")
    yield encode_image(small, "WEBP", lossless=True)
    yield encode_image(small.convert("RGBA"), "WEBP", quality=20)
    yield encode_image(small, "WEBP", save_all=True, append_images=[picture(5, side=12)])


def _arrays() -> Iterator[bytes]:
    for shape in ((3, 32, 32), (32, 32, 3), (1, 8, 8), (8, 8), (5,)):
        for dtype in ("u1", "<i8", ">f4", "<f2", "?"):
            yield encode_npy(np.ones(shape, dtype=dtype))
    yield encode_npy(np.asfortranarray(np.ones((8, 8), dtype=np.uint8)))
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    yield buffer.getvalue()


def _bodies() -> Iterator[bytes]:
    for image in (encode_png(color_image(1, side=8)), next(_jpegs()), next(_webps())):
        encoded = base64.b64encode(image).decode()
        yield json.dumps({"image": encoded, "label": "3"}).encode()
    yield json.dumps({"features": [1, 2.5, -3, 1e10, 0], "label": 7}).encode()


def _packed_headers() -> tuple[bytes, ...]:
    full = (("label", b"3"), ("content-type", NPY.encode()), ("id", b"a"), ("event-time", b"17"))
    return tuple(pack_headers(full[:count]) for count in range(len(full) + 1))


def _read_headers(data: bytes) -> str:
    """Read packed headers, and a record that has whatever they are as its own."""
    try:
        headers = unpack_headers(data)
    except HeadersError:
        headers = (("label", data[:50]), ("event-time", data[50:90]), ("id", data[90:]))
    decoder = Decoder(LIMITS, input_shape=SHAPES[1], classes=DIGITS)
    try:
        record = NewRecord(encode_npy(np.ones((8, 8), np.uint8)), headers)
        (result,) = decoder.decode_batch(at_offsets([record]))
    finally:
        decoder.close()
    return _word(result, SHAPES[1])


def _read_manifest(data: bytes) -> str:
    try:
        manifest = verify_manifest("there", data, sha256=None, signature=None, trusted=None)
    except ArtifactError as error:
        is_short = len(str(error)) < MOST_CHARACTERS
        return "refused" if error.reason == "manifest" and is_short else _unforeseen(error)
    assert json.loads(data) == json.loads(manifest.to_json())
    return "read"


def _read_pointer(data: bytes) -> str:
    try:
        pointer = CurrentPointer.from_bytes(data)
    except StrictJsonError:
        return "refused"
    assert not pointer.folder.startswith("/")
    assert ".." not in pointer.folder.split("/")
    return "read"


def _weights() -> Target:
    torch.manual_seed(0)
    network = build_backbone(NETWORK, num_classes=2)

    def read(data: bytes) -> str:
        # The attacker also writes the manifest, and so its digest.
        try:
            tensors = deserialize_weights(data, sha256=hashlib.sha256(data).hexdigest())
            fill_network(network, tensors)
        except WeightsError as error:
            return error.reason
        return "read"

    return Target("weights", (serialize_weights(network),), read)


def _config() -> Target:
    whole = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    # In pieces, as people write it: most settings are left out, and reading YAML is slow.
    pieces = [
        {name: dict(some) if isinstance(section, dict) else section}
        for name, section in whole.items()
        for some in batched(section.items() if isinstance(section, dict) else [(name, section)])
    ]
    seeds = tuple(yaml.safe_dump(piece, sort_keys=False).encode() for piece in pieces)
    path = Path(tempfile.mkdtemp(prefix="teacherd-fuzz-")) / "config.yaml"

    def read(data: bytes) -> str:
        path.write_bytes(data)
        try:
            load_config(path, environment={})
        except ConfigurationError:
            return "refused"
        return "read"

    return Target("config", seeds, read)


def batched(items: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Yield so many at once."""
    waiting = list(items)
    while waiting:
        yield waiting[:KEYS_OF_A_PIECE]
        del waiting[:KEYS_OF_A_PIECE]


def _posts() -> tuple[bytes, ...]:
    image = base64.b64encode(encode_png(color_image(1, side=8))).decode()
    array = base64.b64encode(encode_npy(np.ones(5, np.float32))).decode()
    instances = [
        {"features": [1, 2.5], "label": "cat", "id": "a", "event_time": "2026-01-31T12:00:00Z"},
        {"image": image, "label": 3, "key": "k", "event_time": 1700000000000},
        {"value": array, "content_type": NPY, "label": "dog"},
    ]
    each = [json.dumps({"instances": [instance]}).encode() for instance in instances]
    return (*each, json.dumps({"instances": instances}).encode())


def _read_post(data: bytes) -> str:
    try:
        read_posted(data, JSON, {}, LIMITS)
    except RefusedPostError as error:
        return "refused" if error.problems else _unforeseen(error)
    return "read"


def _inference() -> Target:
    manifest = Manifest.from_json(json.dumps(MANIFEST).encode())
    as_list = {"name": "inputs", "datatype": "FP32", "shape": [2, 4], "data": [1.5] * 8}
    rows = {**as_list, "data": [[1, 2, 3, 4], [5, 6, 7, 8]], "datatype": "INT64"}
    binary = {
        "name": "inputs",
        "datatype": "FP32",
        "shape": [1, 4],
        "parameters": {"binary_data_size": 16},
    }
    outputs = [{"name": "labels", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    header = json.dumps({"id": "r1", "inputs": [binary], "outputs": outputs}).encode()
    seeds = (
        json.dumps({"inputs": [as_list]}).encode(),
        json.dumps({"inputs": [rows], "parameters": {"binary_data_output": True}}).encode(),
        header + np.ones(4, "<f4").tobytes(),
    )

    def read(data: bytes) -> str:
        length = str(len(header)) if len(data) % 2 else None
        try:
            request = parse_request(data, length, manifest)
        except ProtocolError as error:
            return "refused" if 400 <= error.status < 500 else _unforeseen(error)
        assert request.inputs.shape[1:] == (4,)
        assert np.isfinite(request.inputs).all()
        return "read"

    return Target("inference", seeds, read)


def _read_command(data: bytes) -> str:
    try:
        parse_command(data)
    except UsageError:
        return "refused"
    return "read"
