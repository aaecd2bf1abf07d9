"""What the same records and settings need besides, to give the same bits."""

import hashlib
import importlib.util
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import features

_CPU_INFO = Path("/proc/cpuinfo")
_IMAGE_LIBRARIES = ("jpg", "libjpeg_turbo", "webp", "zlib")


def runtime_facts(
    device: torch.device, *, decoder: str | None = None, num_ranks: int = 1
) -> dict[str, str]:
    """Return names and versions of what weights depend on beyond the lineage log and records.

    Args:
        device: Where the weights are computed.
        decoder: The user's own, as package.module:callable.
        num_ranks: How many processes learn together: they add up in another order than one.
    """
    is_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "image_libraries": _image_libraries(),
        "decoder": _source_of(decoder),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "ranks": str(num_ranks),
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "cuda": str(torch.version.cuda) if is_cuda else "",
        "cudnn": _cudnn_version() if is_cuda else "",
    }


def differing_facts(
    before: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return the facts in which two runtimes differ, as before and now.

    A fact that one of them does not name, because its teacherd did not, is no difference.
    """
    return {
        name: (fact, now[name])
        for name, fact in before.items()
        if name in now and now[name] != fact
    }


def _cudnn_version() -> str:
    return str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]


def _image_libraries() -> str:
    """Return the libraries that Pillow decodes with: they round differently."""
    found = {name: features.version(name) for name in _IMAGE_LIBRARIES}
    return " ".join(f"{name} {version}" for name, version in found.items() if version)


def _cpu_model() -> str:
    """Return the processor's name: libraries choose their kernels by it, capability apart."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _source_of(decoder: str | None) -> str:
    """Return the user's decoder with a digest of the file that holds it; "" for none."""
    if decoder is None:
        return ""
    try:
        spec = importlib.util.find_spec(decoder.partition(":")[0])
    except (ImportError, ValueError):
        return decoder  # whoever builds it says what is wrong with it
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return decoder
    digest = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return f"{decoder} sha256 {digest}"
