"""What the same records and settings need besides, to give the same bits."""

import platform

import numpy as np
import PIL
import torch


def runtime_facts(device: torch.device) -> dict[str, str]:
    """Return names and versions of what weights depend on beyond the lineage log and records."""
    is_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "cuda": str(torch.version.cuda) if is_cuda else "",
    }
