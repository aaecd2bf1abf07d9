"""What one rank tells another: a word, facts and tensors, as the bytes of a safetensors file.

Never pickle: reading a message runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from safetensors.torch import load, save
from torch import Tensor

Word = Literal[
    "accept", "begin", "compare", "cut", "discard", "finish", "head", "move", "part", "report",
    "restore", "start", "step", "stop", "threads", "tick",
]  # fmt: skip

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class RankMessage:
    """One message."""

    word: Word
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """On the CPU."""

    def to_bytes(self) -> bytes:
        """Return it as it is sent."""
        text = json.dumps({"word": self.word, "facts": self.facts})
        return save(dict(self.tensors), metadata={"message": text})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` has written."""
        end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        header = json.loads(data[_LENGTH_BYTES:end])
        message = json.loads(header["__metadata__"]["message"])
        return cls(message["word"], message["facts"], load(data))
