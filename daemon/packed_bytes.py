"""Many short byte strings as two tensors, for messages between ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_ABSENT = -1


def pack_bytes(values: Sequence[bytes | None], name: str) -> dict[str, Tensor]:
    """Return strings, one after another, and their lengths.

    Args:
        values: None where there is none.
        name: What they are, which the names of the tensors begin with.
    """
    joined = bytearray(b"".join(each or b"" for each in values))
    lengths = [_ABSENT if each is None else len(each) for each in values]
    return {
        # torch takes no empty buffer.
        f"{name}.bytes": torch.frombuffer(joined or bytearray(1), dtype=torch.uint8),
        f"{name}.lengths": torch.tensor(lengths, dtype=torch.int64),
    }


def unpack_bytes(tensors: Mapping[str, Tensor], name: str) -> list[bytes | None]:
    """Return the strings that `pack_bytes` was given."""
    joined = tensors[f"{name}.bytes"].numpy().tobytes()
    values: list[bytes | None] = []
    at = 0
    for length in tensors[f"{name}.lengths"].tolist():
        values.append(None if length == _ABSENT else joined[at : at + length])
        at += max(length, 0)
    return values
