"""Whether a candidate becomes the head, and whether it is served: the one place that decides."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is to become of a candidate, and why."""

    result: Literal["accepted", "held"]
    should_publish: bool
    reasons: tuple[str, ...] = ()


def decide(candidate: nn.Module) -> Verdict:
    """Accept and publish every candidate whose weights are finite; hold any other.

    Weights that are not finite would pass through the average into every later version.
    """
    bad = [
        name
        for name, tensor in candidate.state_dict().items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if bad:
        return Verdict(
            result="held", should_publish=False, reasons=(f"not finite: {', '.join(bad[:5])}",)
        )
    return Verdict(result="accepted", should_publish=True)
