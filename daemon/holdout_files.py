"""The holdouts of a checkpoint as files: written once, linked from each checkpoint to the next."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.numpy
from safetensors import SafetensorError

from teacherd.daemon.errors import StateError
from teacherd.daemon.holdout_split import Holdout

_PREFIX = "holdout-"
_INPUTS, _LABELS, _CLASSES = "inputs", "labels", "classes"
_HEADER_BYTES = 8
"""In front of a safetensors file: the length of its header, little-endian."""


class HoldoutFiles:
    """Puts holdouts into a checkpoint's folder; whoever has been written before is linked."""

    def __init__(self) -> None:
        self._written: dict[int, tuple[Holdout, str, Path]] = {}
        """By task: what was written, its sha256, and where it lies."""

    def write(self, folder: Path, final: Path, holdouts: Mapping[int, Holdout]) -> dict[str, str]:
        """Write or link a file for each holdout; return their sha256 by its name.

        Args:
            folder: Where to write.
            final: What that folder will be called.
            holdouts: By task.
        """
        digests = {}
        for task, holdout in holdouts.items():
            digests[file_name(task)] = self._put(folder, final, holdout)
        self._written = {task: each for task, each in self._written.items() if task in holdouts}
        return digests

    def _put(self, folder: Path, final: Path, holdout: Holdout) -> str:
        name = file_name(holdout.task)
        known = self._written.get(holdout.task)
        if known is not None and known[0] is holdout:
            # A file system may know no links, and the file may be gone: then it is written anew.
            with contextlib.suppress(OSError):
                os.link(known[2], folder / name)
                self._written[holdout.task] = (holdout, known[1], final / name)
                return known[1]
        data = safetensors.numpy.save(
            {_INPUTS: holdout.inputs, _LABELS: holdout.labels},
            metadata={_CLASSES: json.dumps(holdout.classes)} if holdout.classes else None,
        )
        digest = hashlib.sha256(data).hexdigest()
        (folder / name).write_bytes(data)
        self._written[holdout.task] = (holdout, digest, final / name)
        return digest


def file_name(task: int) -> str:
    """Return what the file of a task's holdout is called."""
    return f"{_PREFIX}{task:06d}.safetensors"


def read_holdouts(
    folder: Path, digests: Mapping[str, str], on_unreadable: Callable[[StateError], None]
) -> dict[int, Holdout]:
    """Read the holdouts of a checkpoint's folder; those that are damaged are told and left out."""
    holdouts = {}
    for name, digest in digests.items():
        try:
            holdout = _read(folder / name, digest)
            holdouts[holdout.task] = holdout
        except StateError as error:
            on_unreadable(error)
    return holdouts


def _read(path: Path, digest: str) -> Holdout:
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise StateError(path, "does not have the sha256 that it was written with")
        arrays = safetensors.numpy.load(data)
        task = int(path.stem.removeprefix(_PREFIX))
        return Holdout(task, arrays[_INPUTS], arrays[_LABELS], _classes(data))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise StateError(path, f"is unreadable: {error}") from error


def _classes(data: bytes) -> tuple[str, ...]:
    """Return the names beside the tensors; files without any are of version 0's classes."""
    length = int.from_bytes(data[:_HEADER_BYTES], "little")
    header = json.loads(data[_HEADER_BYTES : _HEADER_BYTES + length])
    return tuple(json.loads(header.get("__metadata__", {}).get(_CLASSES, "[]")))
