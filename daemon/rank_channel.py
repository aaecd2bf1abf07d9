"""How ranks talk: rank 0 tells all others, and collects an answer from each."""

import torch
from torch import Tensor, distributed

from teacherd.daemon.rank_message import RankMessage
from teacherd.models.ranks import Ranks, rank_errors

_FIRST_BYTES = 1024
"""Sent at once, with the length of the whole: most messages are no longer."""
_LENGTH_BYTES = 8


class RankChannel:
    """Messages between rank 0 and the others; every call waits for its counterpart.

    Each raises RankLostError when another rank is gone, or does not answer in time.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    @property
    def size(self) -> int:
        """Return how many ranks there are."""
        return self._ranks.size

    def tell(self, message: RankMessage) -> None:
        """Tell all other ranks; rank 0's."""
        data = message.to_bytes()
        whole = _tensor(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
        first = torch.zeros(_FIRST_BYTES, dtype=torch.uint8)
        first[: len(whole)] = whole[:_FIRST_BYTES]
        with rank_errors():
            distributed.broadcast(first, src=0)
            if len(whole) > _FIRST_BYTES:
                distributed.broadcast(whole[_FIRST_BYTES:], src=0)

    def hear(self) -> RankMessage:
        """Wait for what rank 0 tells."""
        first = torch.empty(_FIRST_BYTES, dtype=torch.uint8)
        with rank_errors():
            distributed.broadcast(first, src=0)
            data = _bytes(first)
            end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
            if end > _FIRST_BYTES:
                rest = torch.empty(end - _FIRST_BYTES, dtype=torch.uint8)
                distributed.broadcast(rest, src=0)
                data += _bytes(rest)
        return RankMessage.from_bytes(data[_LENGTH_BYTES:end])

    def answer(self, message: RankMessage) -> None:
        """Answer rank 0."""
        data = _tensor(message.to_bytes())
        with rank_errors():
            distributed.send(torch.tensor([len(data)]), dst=0)
            distributed.send(data, dst=0)

    def collect(self) -> list[RankMessage]:
        """Return the answer of each other rank, in their order; rank 0's."""
        return [self._answer_of(rank) for rank in range(1, self._ranks.size)]

    def _answer_of(self, rank: int) -> RankMessage:
        length = torch.zeros(1, dtype=torch.int64)
        with rank_errors():
            distributed.recv(length, src=rank)
            data = torch.empty(int(length), dtype=torch.uint8)
            distributed.recv(data, src=rank)
        return RankMessage.from_bytes(_bytes(data))


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
