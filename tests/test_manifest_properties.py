"""Manifests from strangers: whatever the bytes, they are read exactly or refused, nothing else."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from versions import CREATED_AT

from teacherd.models.artifact import ArtifactError, Manifest, verify_manifest
from teacherd.models.current_pointer import CurrentPointer
from teacherd.models.strict_json import StrictJsonError

GOOD: dict[str, Any] = {
    "format": 1,
    "lineage": "abc",
    "epoch": 1,
    "version": 2,
    "architecture": {"name": "mlp", "input_shape": [4], "arguments": {"width": 8}},
    "classes": ["a", "b"],
    "increments": [1, 1],
    "preprocessing": {"mean": [0.0] * 4, "std": [1.0] * 4, "scale": 1.0},
    "sigma": None,
    "weights_sha256": "0" * 64,
    "weights_bytes": 1,
    "parent": 1,
    "tasks": [1],
    "verdict": {},
    "metrics": {"accuracy": 0.5},
    "created_at": CREATED_AT.isoformat(),
    "torch": torch.__version__,
}
POINTER = {"epoch": 1, "version": 2, "folder": "versions/000002", "manifest_sha256": "0" * 64}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(text=st.binary(max_size=200))
def test_no_bytes_break_the_readers(text: bytes) -> None:
    """Neither manifest nor pointer; the error is the one that loaders expect."""
    with pytest.raises(StrictJsonError):
        CurrentPointer.from_bytes(text)
    with pytest.raises(ArtifactError) as raised:
        verify_manifest("there", text, sha256=None, signature=None, trusted=None)

    assert "manifest" == raised.value.reason


@given(key=st.sampled_from(sorted(GOOD)), value=VALUES)
def test_any_value_of_any_key_is_read_exactly_or_refused(key: str, value: Any) -> None:  # noqa: ANN401 (JSON)
    """What is read says again what was written."""
    text = json.dumps({**GOOD, key: value}).encode()
    try:
        manifest = Manifest.from_json(text)
    except StrictJsonError:
        return
    assert json.loads(text) == json.loads(manifest.to_json())


@given(changes=st.dictionaries(st.sampled_from(sorted(POINTER)) | st.text(max_size=6), VALUES))
def test_a_pointer_leads_below_or_is_refused(changes: dict[str, Any]) -> None:
    """Whatever was changed about it."""
    try:
        pointer = CurrentPointer.from_bytes(json.dumps({**POINTER, **changes}).encode())
    except StrictJsonError:
        return
    assert not pointer.folder.startswith("/")
    assert ".." not in pointer.folder.split("/")


@given(folder=st.text(alphabet="./\\ab\0~%", max_size=12))
def test_a_pointers_folder_never_climbs(folder: str) -> None:
    """Made of what paths are made of."""
    try:
        pointer = CurrentPointer.from_bytes(json.dumps({**POINTER, "folder": folder}).encode())
    except StrictJsonError:
        return
    assert ".." not in pointer.folder.split("/")
    assert not pointer.folder.startswith("/")


def test_the_good_ones_are_good() -> None:
    """The tests above change what would have been read."""
    assert 2 == Manifest.from_json(json.dumps(GOOD).encode()).version
    assert 2 == CurrentPointer.from_bytes(json.dumps(POINTER).encode()).version
