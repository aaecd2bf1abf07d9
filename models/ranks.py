"""The ranks that learn one task together: which part of a batch each computes, and their sums.

A process by itself is the only rank of one: no process group is started, nothing is copied, and
every number is what it would be without this module. Whoever starts several processes joins them
in torch's default process group before (daemon/joining.py); which way numbers go is its business.

Legend: B batch.
"""

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from teacherd.models.module_tensors import module_tensors

_DIGEST_BYTES = 32
TRAINS_STATISTICS = (
    "train: BatchNorm would take its statistics from a rank's share of a batch only; take frozen, "
    "or run one process"
)
DRAWS = (
    "the network draws random numbers while it learns (dropout, stochastic depth): they would "
    "depend on the number of ranks; set them to 0 in its arguments, or run one process"
)


class RankLostError(Exception):
    """Another rank is gone or does not answer in time; what it would have added is missing."""


class DivergedError(Exception):
    """Ranks that must have the same weights have not; none of them can be trusted.

    Args:
        task: Number of the task that was learned.
        ranks: Those whose weights are other than rank 0's.
    """

    def __init__(self, task: int, ranks: Sequence[int]) -> None:
        super().__init__(
            f"task {task}: the weights of rank {', '.join(map(str, ranks))} are others than "
            "rank 0's; nothing of it was kept. Give all ranks the same kind of processor, torch "
            "and number of threads; if they have, test that machine's memory"
        )
        self.ranks = tuple(ranks)


class RanksRefusedError(Exception):
    """What is to be learned cannot be shared out without becoming something else.

    Args:
        key: Of the setting that says so.
        message: Its value, the rule and the fix.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


class Share(NamedTuple):
    """The part [start, end) of a batch that one rank computes."""

    start: int
    end: int
    weight: float
    """Share of the batch's instances: means over the part, times it, add up to the batch's mean."""

    def of(self, instances: Tensor) -> Tensor:
        """Return the part of a tensor [B, ...]."""
        return instances[self.start : self.end]


EVERYTHING = Share(0, sys.maxsize, 1.0)
"""The share of a process by itself."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """All ranks, and which of them this process is."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_process(cls) -> "Ranks":
        """Return those of torch's default process group; without one, this process alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to add up with."""
        return self.size == 1

    def share(self, num_instances: int) -> Share:
        """Return this rank's part of so many instances; the parts differ by at most one.

        With fewer instances than ranks some compute the first one with weight 0, so that every
        rank has a gradient for the same parameters.
        """
        if self.is_alone:
            return EVERYTHING
        start, end = (edge * num_instances // self.size for edge in (self.rank, self.rank + 1))
        if start == end:
            return Share(0, 1, 0.0)
        return Share(start, end, (end - start) / num_instances)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all ranks, in place; the sum has the same bits on each."""
        if not self.is_alone:
            with rank_errors():
                distributed.all_reduce(tensor)
        return tensor

    def keep_abreast(self) -> None:
        """Wait until every rank is here: where all do the same work, none gets far ahead.

        Whoever waits for a slower one then waits for one batch of it, not for all: to wait longer
        than the process group's timeout means that something is wrong.
        """
        self.sum_(torch.zeros(1))

    def from_first(self, compute: Callable[[Callable[[], object]], float]) -> float:
        """Return a number that rank 0 computes; the others hear meanwhile that it does.

        Args:
            compute: Called by rank 0, with what is to be called after each batch.
        """
        if self.is_alone:
            return compute(lambda: None)
        if self.rank == 0:
            value = compute(lambda: self._hear_first(is_known=False))
            return self._hear_first(is_known=True, value=value)[1]
        while not (heard := self._hear_first(is_known=False))[0]:
            pass
        return heard[1]

    def _hear_first(self, *, is_known: bool, value: float = 0.0) -> tuple[bool, float]:
        """Return what rank 0 says, whatever the others do."""
        held = torch.tensor([is_known, value], dtype=torch.float64)
        with rank_errors():
            distributed.broadcast(held, src=0)
        return bool(held[0]), float(held[1])

    def sum_gradients(self, network: nn.Module, terms: Tensor) -> Tensor:
        """Add up the gradients of all ranks in place, and the terms of their losses; return these.

        In one exchange. Not by DistributedDataParallel: it averages over ranks, where instances
        are to be weighed alike, and refuses a network that does not use all of its parameters.

        Args:
            network: Its gradients are of losses times the share's weight.
            terms: Each a number, times that weight.
        """
        if self.is_alone:
            return terms
        gradients = [each.grad for each in network.parameters() if each.grad is not None]
        flat = torch.cat([*(each.reshape(-1) for each in gradients), terms.to(torch.float32)])
        self.sum_(flat)
        *sums, terms = torch.split(flat, [*(each.numel() for each in gradients), len(terms)])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        return terms

    def require_same(self, network: nn.Module, *, task: int) -> None:
        """See that all ranks have the same weights, by their sha256.

        Raises:
            DivergedError: Some have not.
        """
        if self.is_alone:
            return
        digests = torch.zeros(self.size, _DIGEST_BYTES, dtype=torch.uint8)
        digests[self.rank] = torch.frombuffer(bytearray(_digest(network)), dtype=torch.uint8)
        self.sum_(digests)
        others = (digests != digests[0]).any(dim=1).nonzero().flatten().tolist()
        if others:
            raise DivergedError(task, others)


ALONE = Ranks()
"""A process by itself."""


@contextlib.contextmanager
def rank_errors() -> Iterator[None]:
    """Give what torch raises when another rank fails one name.

    Raises:
        RankLostError: In place of torch's errors.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RankLostError(f"the ranks cannot go on together: {reason}") from error


def _digest(network: nn.Module) -> bytes:
    """Return the sha256 of all of a network's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module_tensors(network).items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()
