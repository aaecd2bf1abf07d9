"""The file of a checkpoint that holds the rehearsal memory."""

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from teacherd.daemon.errors import StateError
from teacherd.models.memory import Memory

MEMORY = "memory.safetensors"


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """A memory read back, and how much of the log it has seen."""

    state: dict[str, Tensor] = field(default_factory=dict)
    """Empty of an empty memory."""
    num_entries: int = 0
    """Tasks accepted in the log's first so many entries are in it, later ones are not."""


class MemoryFile:
    """Puts the memory into a checkpoint's folder; one that has not changed is linked."""

    def __init__(self) -> None:
        self._written: tuple[int, str, Path] | None = None
        """Revision that was written, its sha256, and where it lies."""

    def write(self, folder: Path, final: Path, memory: Memory) -> str | None:
        """Write or link it; return its sha256, None for an empty memory, which has no file.

        Args:
            folder: Where to write.
            final: What that folder will be called.
            memory: What to write.
        """
        if not len(memory):
            return None
        if self._written is not None and self._written[0] == memory.revision:
            revision, digest, path = self._written
            # A file system may know no links, and the file may be gone: then it is written anew.
            with contextlib.suppress(OSError):
                os.link(path, folder / MEMORY)
                self._written = (revision, digest, final / MEMORY)
                return digest
        data = safetensors.torch.save(memory.state_dict())
        digest = hashlib.sha256(data).hexdigest()
        (folder / MEMORY).write_bytes(data)
        self._written = (memory.revision, digest, final / MEMORY)
        return digest


def read_memory(folder: Path, sha256: str | None) -> dict[str, Tensor]:
    """Return the state of a checkpoint's memory.

    Args:
        folder: The checkpoint's.
        sha256: As the checkpoint names it; None: its memory was empty.

    Raises:
        StateError: The file is damaged or missing.
    """
    if sha256 is None:
        return {}
    path = folder / MEMORY
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StateError(path, "does not have the sha256 that it was written with")
        state: dict[str, Tensor] = safetensors.torch.load(data)
        Memory().load_state_dict(state)
    except (OSError, SafetensorError, ValueError) as error:
        raise StateError(path, f"is unreadable: {error}") from error
    return state
