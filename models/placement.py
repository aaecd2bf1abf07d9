"""Where and how tensors are computed: device, precision, memory format, determinism."""

import contextlib
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Precision = Literal["auto", "float32", "bfloat16"]

_IMAGE_NDIM = 4
_Network = TypeVar("_Network", bound=nn.Module)


def enable_determinism(device: torch.device) -> None:
    """Make equal computations on the CPU give equal bits, for the whole process.

    The bits still depend on torch's version, on the CPU's vector instructions and on the number of
    threads; the lineage log records these. On CUDA nothing is promised and nothing is slowed down:
    a decided version is loaded there, never computed again.
    """
    if device.type != "cpu":
        return
    # Not use_deterministic_algorithms: that imports the compiler as well, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    # Filling memory that is written before it is read would cost time and change nothing.
    # The stubs do not know it: torch makes the module's attributes at import.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A device and what gains speed on it."""

    device: torch.device
    """Where networks and batches lie."""
    precision: Precision = "auto"
    """auto computes in bfloat16 on CUDA devices that do so natively, in float32 elsewhere."""

    def place(self, network: _Network) -> _Network:
        """Move a network here; convolutions on CUDA read channels last."""
        if self.device.type == "cuda":
            # The stubs know no overload that takes the format alone.
            return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
        return network.to(self.device)

    def place_inputs(self, inputs: Tensor) -> Tensor:
        """Move a batch of inputs here, images in the format that the convolutions read."""
        if self.device.type == "cuda" and inputs.ndim == _IMAGE_NDIM:
            return inputs.to(self.device, memory_format=torch.channels_last)
        return inputs.to(self.device)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which networks compute; weights stay float32."""
        if self._uses_bfloat16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    @property
    def _uses_bfloat16(self) -> bool:
        if self.precision != "auto":
            return self.precision == "bfloat16"
        return self.device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
