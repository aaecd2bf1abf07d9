"""A teacher as one module from raw inputs to answers: what is handed to other runtimes.

Legend: B batch, C channels, H height, W width, F features, K classes.
"""

import torch
from torch import Tensor, nn

from teacherd.models.artifact import LoadedTeacher
from teacherd.models.version_loading import default_probe

INPUT = "inputs"
OUTPUTS = ("logits", "probabilities")

_IMAGE_NDIM = 3
_LARGEST_BYTE = 255


class Deployable(nn.Module):
    """Preprocessing, network and softmax; gives what HotTeacher gives, and the logits beside it."""

    def __init__(self, teacher: LoadedTeacher) -> None:
        super().__init__()
        preprocessing = teacher.manifest.preprocessing
        shape = (1, -1) if not is_image(teacher) else (1, -1, 1, 1)
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        self.network = teacher.network
        self.shift: Tensor
        self.factor: Tensor
        self.register_buffer("shift", (mean / preprocessing.scale).view(shape).float())
        self.register_buffer("factor", (preprocessing.scale / std).view(shape).float())
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities [B, K].

        Args:
            inputs: Raw uint8 [B, C, H, W] or float32 [B, F], as they came in the stream.
        """
        logits_BK = self.network((inputs.to(torch.float32) - self.shift) * self.factor)
        return logits_BK, logits_BK.softmax(dim=1)


def is_image(teacher: LoadedTeacher) -> bool:
    """Tell whether raw inputs are uint8 images rather than float32 vectors."""
    return len(teacher.manifest.architecture.input_shape) == _IMAGE_NDIM


def sample_inputs(teacher: LoadedTeacher) -> Tensor:
    """Return a small raw batch of the kind that the deployed teacher takes."""
    probe = default_probe(teacher.manifest)
    return probe.round().clamp(0, _LARGEST_BYTE).to(torch.uint8) if is_image(teacher) else probe
