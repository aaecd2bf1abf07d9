"""Makes a root with published versions, as the daemon does."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from teacherd.models.artifact import version_folder, write_artifact
from teacherd.models.backbone import BackboneConfig
from teacherd.models.current_pointer import CurrentPointer
from teacherd.models.design import Design
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.provenance import Provenance

OWN_NETWORK = BackboneConfig(name="somewhere:paired", input_shape=(4,))
CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Paired(nn.Module):
    """Gives its version away, and whether all its weights are of that version.

    The first logit is the version; the second is the difference of two large tensors that hold
    it each, 0 unless they are of different versions.
    """

    def __init__(self, num_classes: int, value: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.full((500, 200), value))
        self.middle = nn.ModuleList(nn.Linear(1, 1) for _ in range(20))
        self.last = nn.Parameter(torch.full((500, 200), value))
        self.num_classes = num_classes

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        logits = torch.zeros(len(inputs), self.num_classes)
        logits[:, 0] = self.first[0, 0] / 1000
        logits[:, 1] = (self.first - self.last).abs().max()
        return logits


def publish(
    root: Path, version: int, *, network: nn.Module | None = None, **changes: object
) -> CurrentPointer:
    """Write a version and point `current` at it; without a network, one that tells its version."""
    folder = version_folder(root, version)
    folder.mkdir(parents=True)
    design: dict[str, Any] = {
        "architecture": OWN_NETWORK,
        "classes": ("a", "b", "c"),
        "preprocessing": Preprocessing(mean=(0.0,) * 4, std=(1.0,) * 4, scale=1.0),
    }
    provenance: dict[str, Any] = {
        "lineage": "abc",
        "version": version,
        "created_at": CREATED_AT.isoformat(),
    }
    designed = {name for name in changes if name in Design.__dataclass_fields__}
    manifest = write_artifact(
        folder,
        network or Paired(3, value=float(version)),
        Design(**design | {name: changes.pop(name) for name in designed}),
        Provenance(**provenance | changes),
    )
    pointer = CurrentPointer.to(root, manifest)
    point(root, pointer)
    return pointer


def point(root: Path, pointer: CurrentPointer | bytes) -> None:
    """Replace `current` by rename."""
    content = pointer if isinstance(pointer, bytes) else pointer.to_bytes()
    temporary = root / ".tmp-current"
    temporary.write_bytes(content)
    temporary.replace(root / "current")
