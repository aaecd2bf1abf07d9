"""A network's weights as bytes and back: safetensors, the same bytes for the same weights.

Never pickle: reading weights runs no code.
"""

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn


class WeightsError(Exception):
    """These bytes are not usable weights of this network.

    `reason` is one of `checksum`, `format`, `tensors` and `nonfinite`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def serialize_weights(network: nn.Module) -> bytes:
    """Return parameters and buffers as safetensors.

    Same weights, same bytes, whatever their device and memory format; the sha256 of these bytes is
    the one in manifests and in the lineage log.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise ValueError(  # noqa: TRY004 - the network is of the wrong make, not the call
                f"{name}: {type(value).__name__}: only tensors can be kept; a network must hold "
                "its state in parameters and buffers, not in get_extra_state"
            )
        # A copy each, because safetensors refuses tensors that share memory, as tied weights do.
        tensors[name] = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
    return save(tensors)


def deserialize_weights(data: bytes, *, sha256: str) -> dict[str, Tensor]:
    """Return the tensors by name, on the CPU.

    Raises:
        WeightsError: The bytes are not those that were written, or no safetensors.
    """
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise WeightsError("checksum", f"has sha256 {digest}, the manifest says {sha256}")
    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError("format", f"is no safetensors file: {error}") from error
    return tensors


def fill_network(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors into the network, after all of them were found to fit and to be finite.

    Raises:
        WeightsError: A tensor is missing, too many, of another shape or type, or not finite; the
            network is untouched.
    """
    wanted = network.state_dict()
    _check_names(wanted.keys() - tensors.keys(), "lacks")
    _check_names(tensors.keys() - wanted.keys(), "has, and the network does not,")
    for name, tensor in sorted(tensors.items()):
        shape, dtype = wanted[name].shape, wanted[name].dtype
        if tensor.shape != shape or tensor.dtype != dtype:
            raise WeightsError(
                "tensors",
                f"{name} is {tensor.dtype} {tuple(tensor.shape)}, the network's is {dtype} "
                f"{tuple(shape)}",
            )
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise WeightsError("nonfinite", f"{name} holds NaN or infinity")
    network.load_state_dict(tensors)


def _is_finite(tensor: Tensor) -> bool:
    # NaN and infinity survive every sum, so that a finite one settles it at a tenth of the cost.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _check_names(names: set[str], verb: str) -> None:
    if names:
        first = ", ".join(sorted(names)[:3])
        raise WeightsError("tensors", f"{verb} {len(names)} tensors: {first}")
