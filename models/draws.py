"""Random draws as pure functions of (lineage seed, task, purpose, place): never of process state.

Whoever draws asks for a fresh generator, keyed by what the draw is for; so a resumed task, another
process and a replay of the lineage log all draw the same. Draws on a device are that device's own:
the same key gives other numbers on CUDA than on the CPU.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Purpose = Literal[
    "shuffle",
    "dust",
    "augmentation",
    "network",
    "consolidation",
    "calibration",
    "sketch",
    "head",
    "groups",
    "memory",
    "rehearsal",
    "absent",
]
"""What a draw is for; two purposes never share numbers."""

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """All draws of one task."""

    seed: int
    """Seed of the lineage."""
    task: int
    """Number of the task."""

    def generator(
        self, purpose: Purpose, place: int = 0, device: torch.device = _CPU
    ) -> torch.Generator:
        """Return a generator at its start: equal arguments give equal numbers, always.

        Args:
            purpose: What is drawn.
            place: The epoch, step or update that it is drawn for.
            device: Where the numbers are made.
        """
        return torch.Generator(device).manual_seed(self.key(purpose, place))

    def permutation(self, epoch: int, num_instances: int) -> Tensor:
        """Return the order [N] in which an epoch visits the instances of the task, on the CPU."""
        return torch.randperm(num_instances, generator=self.generator("shuffle", epoch))

    @contextlib.contextmanager
    def inside_network(self, step: int, device: torch.device) -> Iterator[Callable[[], bool]]:
        """Key torch's global generators within, and leave them as they were.

        What it gives tells whether anything has been drawn from them. For networks that draw on
        their own (dropout, stochastic depth): they can be told no generator. No other thread may
        draw from the global generators meanwhile.
        """
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(self.key("network", step))
            keyed = [generator.get_state() for generator in generators]
            yield lambda: any(
                not torch.equal(generator.get_state(), state)
                for generator, state in zip(generators, keyed, strict=True)
            )
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

    def key(self, purpose: Purpose, place: int = 0) -> int:
        """Return the seed of such a draw, for what seeds a generator itself."""
        words = f"{self.seed}/{self.task}/{purpose}/{place}"
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8])
