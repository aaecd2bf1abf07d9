"""How far two networks of the same design are apart: in their weights, and in what they answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from teacherd.models.artifact import LoadedTeacher
from teacherd.models.evaluation import as_tensor, evaluation_mode
from teacherd.models.preprocessing import Preprocessing

_BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What lies between two networks."""

    largest_difference: float
    """Of a weight or buffer, absolute."""
    agreement: float
    """Share of the inputs that both give the same class."""


def compare_teachers(
    one: LoadedTeacher,
    other: LoadedTeacher,
    inputs: npt.NDArray[Any],
    *,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
) -> Comparison:
    """Compare two versions on raw inputs, at least one; both networks lie on the device."""
    preprocessing = one.manifest.design.preprocessing
    answers = [
        _answers(each.network, inputs, preprocessing, device, on_batch) for each in (one, other)
    ]
    return Comparison(
        largest_difference=_largest_difference(one.network, other.network),
        agreement=float((answers[0] == answers[1]).double().mean()),
    )


def _largest_difference(one: nn.Module, other: nn.Module) -> float:
    others = other.state_dict()
    return max(
        float((tensor.double() - others[name].double()).abs().max())
        for name, tensor in one.state_dict().items()
        if tensor.numel()
    )


def _answers(
    network: nn.Module,
    inputs: npt.NDArray[Any],
    preprocessing: Preprocessing,
    device: torch.device,
    on_batch: Callable[[], None],
) -> Tensor:
    parts = []
    with evaluation_mode(network):
        for raw_B in torch.split(as_tensor(inputs), _BATCH_SIZE):
            parts.append(network(preprocessing.apply(raw_B.to(device))).argmax(dim=1))
            on_batch()
    return torch.cat(parts).cpu()
