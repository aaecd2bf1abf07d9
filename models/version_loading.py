"""Turning a version below a root into a network that may be served, or saying why not."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from teacherd.models.artifact import (
    MANIFEST,
    ArtifactError,
    Manifest,
    build_network,
    load_weights,
    read_manifest,
)
from teacherd.models.backbone import NetworkFactory, is_own_code, measure_backbone
from teacherd.models.current_pointer import CURRENT, CurrentPointer, served_folder
from teacherd.models.signature import TrustedKeys

_NUM_RANDOM_PROBES = 3
_LARGEST_INSTANCE = 2**26
"""Numbers in one input: 8192 x 8192 grey values. A manifest may not ask for more memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedVersion:
    """A version that passed every check, and the network that holds its weights."""

    network: nn.Module
    """In eval mode."""

    manifest: Manifest
    """What it is."""

    manifest_sha256: str
    """Digest of the manifest as `current` gave it."""

    def can_hold(self, manifest: Manifest) -> bool:
        """Tell whether the other version's weights fit into this network."""
        return self.manifest.architecture == manifest.architecture and len(
            self.manifest.classes
        ) == len(manifest.classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingRules:
    """What a version must be, so that it is served."""

    factory: NetworkFactory | None = None
    """Builds the network in place of what manifests name."""

    trusted: TrustedKeys | None = None
    """Keys of which one must have signed the manifest; None asks for no signature."""

    probe: np.ndarray | None = None
    """A raw batch that must give finite logits; None makes one up."""

    largest_bytes: int
    """Weights larger than this are refused."""

    def __post_init__(self) -> None:
        if self.largest_bytes < 1:
            raise ValueError(f"largest_bytes: {self.largest_bytes}: must be at least 1")


class VersionLoader:
    """Loads versions onto a device, by the rules."""

    def __init__(self, root: Path, rules: LoadingRules, *, device: torch.device) -> None:
        self._root = root
        self._rules = rules
        self._device = device

    def load(
        self,
        pointer: CurrentPointer,
        served: ServedVersion | None,
        *,
        likeness: ServedVersion | None,
    ) -> ServedVersion | None:
        """Return the version that the pointer names, verified and probed; None if it is served.

        Args:
            pointer: Which version to load.
            served: What a newer version must be newer than.
            likeness: A network that is copied rather than built anew, where it is of the kind.

        Raises:
            ArtifactError: It must not be served.
        """
        folder = served_folder(self._root, pointer)
        if served is not None and not self._is_newer(pointer, served):
            return None
        manifest = read_manifest(
            folder, sha256=pointer.manifest_sha256, trusted=self._rules.trusted
        )
        self._check_manifest(folder / MANIFEST, manifest, pointer, served)
        network = self._network_for(folder, manifest, likeness)
        load_weights(folder, manifest, network)
        probe_network(folder, network, manifest, self._rules.probe)
        return ServedVersion(
            network=network, manifest=manifest, manifest_sha256=pointer.manifest_sha256
        )

    def _network_for(
        self, folder: Path, manifest: Manifest, likeness: ServedVersion | None
    ) -> nn.Module:
        if self._rules.factory is None:
            if likeness is not None and likeness.can_hold(manifest):
                return copy.deepcopy(likeness.network)
            require_modest(folder / MANIFEST, manifest)
        return build_network(folder, manifest, factory=self._rules.factory).to(self._device)

    def _is_newer(self, pointer: CurrentPointer, served: ServedVersion) -> bool:
        offered = (pointer.epoch, pointer.version)
        ours = (served.manifest.epoch, served.manifest.version)
        if offered > ours:
            return True
        if offered == ours and pointer.manifest_sha256 == served.manifest_sha256:
            return False
        raise ArtifactError(
            self._root / CURRENT,
            "downgrade",
            f"names epoch and version {offered}, and {ours} is served; numbers only grow, a roll "
            "back is a new version",
        )

    def _check_manifest(
        self,
        path: Path,
        manifest: Manifest,
        pointer: CurrentPointer,
        served: ServedVersion | None,
    ) -> None:
        place = (manifest.epoch, manifest.version)
        if place != (pointer.epoch, pointer.version):
            raise ArtifactError(path, "manifest", f"is of {place}, which current does not name")
        if manifest.weights_bytes > self._rules.largest_bytes:
            raise ArtifactError(
                path,
                "size",
                f"announces {manifest.weights_bytes} bytes of weights, at most "
                f"{self._rules.largest_bytes} are taken",
            )
        if served is not None and manifest.lineage != served.manifest.lineage:
            raise ArtifactError(
                path,
                "lineage",
                f"is of lineage {manifest.lineage}, and {served.manifest.lineage} is served; "
                "restart to change over",
            )
        if is_own_code(manifest.architecture) and self._rules.factory is None:
            raise ArtifactError(
                path,
                "code",
                f"asks to import {manifest.architecture.name}; a file must not choose what code "
                "runs: pass that callable as `network`",
            )


def require_modest(path: Path, manifest: Manifest) -> None:
    """Refuse a network that its own weights could not fill, before memory is given to it.

    Raises:
        ArtifactError: It asks for more than there is.
    """
    architecture, announced = manifest.architecture, manifest.weights_bytes
    if math.prod(architecture.input_shape) > _LARGEST_INSTANCE:
        raise ArtifactError(
            path, "network", f"architecture.input_shape: {architecture.input_shape}: is too large"
        )
    for name, value in architecture.arguments.items():
        # Whatever is counted, layers or channels, has a byte of weights at the least.
        if isinstance(value, int | float) and value > announced:
            raise ArtifactError(
                path,
                "network",
                f"architecture.arguments: {name}: {value}: is more than {announced} bytes of "
                "weights can fill",
            )
    try:
        needed = measure_backbone(architecture, num_classes=len(manifest.classes))
    except ValueError as error:
        raise ArtifactError(path, "network", f"architecture.{error}") from error
    if needed > announced:
        raise ArtifactError(
            path, "network", f"architecture: holds {needed} bytes, the weights have {announced}"
        )


def probe_network(
    folder: Path, network: nn.Module, manifest: Manifest, probe: np.ndarray | None
) -> None:
    """Run one batch through preprocessing and network and look at what comes out.

    Raises:
        ArtifactError: Not one finite row of logits for each instance.
    """
    inputs = default_probe(manifest) if probe is None else torch.from_numpy(probe.copy())
    device = next((tensor.device for tensor in network.parameters()), inputs.device)
    with torch.no_grad():
        logits_BK = network(manifest.preprocessing.apply(inputs.to(device)))
    wanted = (len(inputs), len(manifest.classes))
    if not isinstance(logits_BK, Tensor) or logits_BK.shape != wanted:
        given = tuple(logits_BK.shape) if isinstance(logits_BK, Tensor) else type(logits_BK)
        raise ArtifactError(folder, "probe", f"gives {given} on the probe batch, not {wanted}")
    if not bool(torch.isfinite(logits_BK).all()):
        raise ArtifactError(folder, "probe", "gives NaN or infinity on the probe batch")


def default_probe(manifest: Manifest) -> Tensor:
    """Return a raw batch of one blank and some random instances of the network's input shape."""
    shape = manifest.architecture.input_shape
    generator = torch.Generator().manual_seed(0)
    random = torch.randn((_NUM_RANDOM_PROBES, *shape), generator=generator)
    # Undo the preprocessing, so that the network sees what it is used to: mean 0, deviation 1.
    per_channel = (-1, *[1] * (len(shape) - 1))
    mean = torch.tensor(manifest.preprocessing.mean).view(per_channel)
    std = torch.tensor(manifest.preprocessing.std).view(per_channel)
    raw = (random * std + mean) / manifest.preprocessing.scale
    return torch.cat([torch.zeros(1, *shape), raw])
