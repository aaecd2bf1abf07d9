"""The tensors of a network, flat and by name: all that training changes about it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, shared ones once, buffers that are not persistent included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def load_module_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy such tensors into a network of the same architecture.

    Raises:
        ValueError: Names or shapes are another architecture's; nothing is copied.
    """
    own = module_tensors(module)
    wrong = set(own) ^ set(tensors)
    wrong |= {name for name in set(own) & set(tensors) if own[name].shape != tensors[name].shape}
    if wrong:
        raise ValueError(
            f"{min(wrong)}: is missing, unknown or of another shape: the state belongs to another "
            "network; use the one it was saved from"
        )
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def largest_magnitude(module: nn.Module) -> Tensor:
    """Return the largest magnitude of all floating-point tensors; not finite where one is not."""
    tensors = module_tensors(module).values()
    return torch.stack(
        [each.abs().max().float() for each in tensors if each.is_floating_point() and each.numel()]
    ).max()


def snapshot(tensors: Mapping[str, Tensor], *, prefix: str) -> dict[str, Tensor]:
    """Return copies on the CPU, contiguous and sharing nothing, with a prefix to their names."""
    return {
        f"{prefix}.{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in tensors.items()
    }


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors that `snapshot` gave this prefix, without it."""
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }
