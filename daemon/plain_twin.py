"""The trap of adopting torchvision's networks: ours of the same name are adapted to small images.

Weights trained with torchvision's own network either do not fit the adapted one, or, worse, fit it
and mean something else, because only strides differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.torchvision_networks import torchvision_names

_PREFIX = "torchvision.models:"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainTwin:
    """Torchvision's own network, beside the adapted one of that name."""

    adapted_name: str
    network: nn.Module

    @property
    def name(self) -> str:
        """What --network calls it."""
        return f"{_PREFIX}{self.adapted_name}"

    def takes(self, state: Mapping[str, Tensor]) -> bool:
        """Tell whether these are weights of the plain network, by names and shapes."""
        wanted = self.network.state_dict()
        return wanted.keys() == state.keys() and all(
            wanted[name].shape == state[name].shape for name in wanted
        )

    def compare(self, adapted: nn.Module) -> str | None:
        """Return a note if the same weights fit the plain network, which is another one."""
        # What a module prints holds its kernels and strides: all that adapting changes.
        if not self.takes(adapted.state_dict()) or repr(adapted) == repr(self.network):
            return None
        return (
            f"{self.adapted_name} is adapted to small images, with other strides than "
            f"torchvision's own; weights trained with that want --network {self.name}"
        )


def build_plain_twin(adapted: BackboneConfig, *, num_classes: int) -> PlainTwin | None:
    """Return torchvision's own network; None if the name is no adapted one of torchvision's.

    None, too, if torchvision's own cannot take such inputs: then nobody has trained it on them.
    """
    if adapted.name not in torchvision_names():
        return None
    try:
        network = build_backbone(
            replace(adapted, name=f"{_PREFIX}{adapted.name}"), num_classes=num_classes
        )
    except ValueError:
        return None
    return PlainTwin(adapted_name=adapted.name, network=network)
