"""The device that the process learns on."""

import torch

from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.models.placement import enable_determinism

_KINDS = ("cpu", "cuda")


def prepare_device(name: str, num_threads: int, *, section: str = "process") -> torch.device:
    """Choose the device and make what runs on it repeatable.

    Args:
        name: auto, cpu, cuda or cuda:N.
        num_threads: For operations on the CPU; 0 keeps torch's default.
        section: Of the configuration that says so.

    Raises:
        ConfigurationError: There is no such device here.
    """
    try:
        device = find_device(name)
    except ValueError as error:
        raise ConfigurationError([Problem(f"{section}.device", str(error))]) from error
    if num_threads:
        torch.set_num_threads(num_threads)
    enable_determinism(device)
    return device


def find_device(name: str) -> torch.device:
    """Return the device of this name, once it has held a tensor.

    Raises:
        ValueError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    # torch says in different ways that it has no CUDA, no such index or no such name.
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name!r}: cannot be used: {reason}; take auto or cpu") from error
    if device.type not in _KINDS:
        raise ValueError(f"{name!r}: must be auto, cpu, cuda or cuda:N; take auto")
    return device
