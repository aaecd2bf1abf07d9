"""How far two sets of weights of one network lie apart, by the network's top-level modules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WeightsDistance:
    """Counts and squares of some tensors, fit to be added up."""

    num_elements: int = 0
    """That both have."""
    num_changed: int = 0
    """Those of them that differ in any bit of their value."""
    num_new: int = 0
    """That only the later one has, as the rows of new classes."""
    squared_change: float = 0.0
    squared_before: float = 0.0

    def __add__(self, other: Self) -> "WeightsDistance":
        """Return what both come to."""
        return WeightsDistance(
            self.num_elements + other.num_elements,
            self.num_changed + other.num_changed,
            self.num_new + other.num_new,
            self.squared_change + other.squared_change,
            self.squared_before + other.squared_before,
        )

    @property
    def changed_ratio(self) -> float:
        """Share of the elements that differ."""
        return self.num_changed / self.num_elements if self.num_elements else 0.0

    @property
    def relative_change(self) -> float | None:
        """Length of the difference in lengths of what was before; None where that was zero."""
        if self.squared_change == 0:
            return 0.0
        if self.squared_before == 0:
            return None
        return math.sqrt(self.squared_change / self.squared_before)


def measure_distance(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, WeightsDistance]:
    """Compare the floating-point tensors of two networks of one architecture, by module.

    Of a tensor that has grown, the part that both have is compared, the rest is new; so is a tensor
    that only one of them has. Names that all tensors begin with are passed over, as those of a
    wrapper around the network.

    Returns:
        By name, in the order of the later one's tensors.
    """
    depth = _shared_depth([*before, *after])
    found: dict[str, WeightsDistance] = {}
    for name, tensor in after.items():
        if not tensor.is_floating_point():
            continue  # BatchNorm's count of batches is no weight
        module = name.split(".")[depth]
        distance = _distance(before.get(name), tensor)
        found[module] = found.get(module, WeightsDistance()) + distance
    return found


def _shared_depth(names: list[str]) -> int:
    """Return how many leading parts of their dotted names all tensors share."""
    parts = [name.split(".") for name in names]
    # The last part is the tensor's own name, and never a module.
    longest = min((len(each) - 1 for each in parts), default=0)
    depth = 0
    while depth < longest and len({each[depth] for each in parts}) == 1:
        depth += 1
    return depth


def _distance(before: Tensor | None, after: Tensor) -> WeightsDistance:
    if before is None or before.ndim != after.ndim:
        return WeightsDistance(num_new=after.numel())
    corner = tuple(slice(min(old, new)) for old, new in zip(before.shape, after.shape, strict=True))
    old, new = before[corner], after[corner]
    # In double precision: squares of small weights vanish in half precision.
    lengths = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in (new - old, old)]
    squared_change, squared_before = (float(each) ** 2 for each in lengths)
    num_changed = int((new != old).sum())
    num_new = after.numel() - new.numel()
    return WeightsDistance(new.numel(), num_changed, num_new, squared_change, squared_before)
