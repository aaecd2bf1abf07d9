"""The device that the process learns on."""

import torch

from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.models.placement import enable_determinism


def prepare_device(name: str, num_threads: int) -> torch.device:
    """Choose the device and make what runs on it repeatable.

    Args:
        name: auto, cpu, cuda or cuda:N.
        num_threads: For operations on the CPU; 0 keeps torch's default.

    Raises:
        ConfigurationError: There is no such device here.
    """
    if num_threads:
        torch.set_num_threads(num_threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            [Problem("process.device", f"{name!r} cannot be used: {reason}; take auto or cpu")]
        ) from error
    enable_determinism(device)
    return device
