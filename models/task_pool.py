"""The task pool of dense knowledge distillation: which groups of classes the model can tell apart.

method.md, section 5. Classes came in increments, each with the next indices of the head; a group is
the classes of one increment, or of several in a row.
"""

from collections.abc import Sequence
from typing import Literal, get_args

PoolKind = Literal["increments", "contiguous"]


class TaskPool:
    """The groups over classes that came in increments.

    Args:
        increments: Number of classes of each increment, in the order in which they came; their
            indices follow one another from 0 on.
        kind: `increments`: each is a group, which is task-wise distillation; `contiguous`: each
            run of increments is one, n (n + 1) / 2 groups of n increments. (O)
    """

    def __init__(self, increments: Sequence[int], *, kind: PoolKind = "contiguous") -> None:
        if not increments or min(increments) < 1:
            raise ValueError(
                f"increments: {list(increments)}: each must have at least one class, and there "
                "must be one; leave empty ones out"
            )
        if kind not in get_args(PoolKind):
            raise ValueError(f"kind: {kind!r}: must be one of {', '.join(get_args(PoolKind))}")
        self.increments = tuple(increments)
        self.kind: PoolKind = kind
        count = len(increments)
        self.longest = 1 if kind == "increments" else count
        """Increments of the longest group."""
        self.runs = tuple(
            (first, first + length)
            for length in range(1, self.longest + 1)
            for first in range(count - length + 1)
        )
        """Each group's first increment, and the one behind its last."""

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def num_classes(self) -> int:
        """Of all increments together."""
        return sum(self.increments)

    def classes(self, group: int) -> range:
        """Return the indices of a group's classes."""
        first, end = self.runs[group]
        start = sum(self.increments[:first])
        return range(start, start + sum(self.increments[first:end]))

    def grown(self, num_classes: int) -> "TaskPool":
        """Return the pool after one more increment of so many classes."""
        return TaskPool((*self.increments, num_classes), kind=self.kind)
