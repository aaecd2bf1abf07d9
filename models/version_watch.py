"""Noticing a newer version below a root and turning it into a network that may be served."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from teacherd.models.artifact import (
    MANIFEST,
    WEIGHTS,
    ArtifactError,
    Manifest,
    build_network,
    load_weights,
    read_manifest,
)
from teacherd.models.backbone import NetworkFactory, is_own_code
from teacherd.models.current_pointer import CURRENT, CurrentPointer, read_current, served_folder

_NUM_RANDOM_PROBES = 3
_LONGEST_RETRY_SECONDS = 300.0
_TRANSIENT_REASONS = {"unreadable", "internal"}
"""These may pass without any file changing; everything else stays as it is until one does."""

_FileStamp = tuple[int, int, int, int] | None


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


class VersionWatch:
    """Says when `current` is worth a look, and looks.

    Not thread-safe: one caller at a time.
    """

    def __init__(
        self,
        root: Path,
        *,
        device: torch.device,
        poll_seconds: float,
        probe: np.ndarray | None,
        factory: NetworkFactory | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._root = root
        self._device = device
        self._poll_seconds = poll_seconds
        self._probe = probe
        self._factory = factory
        self._monotonic = monotonic
        self._seen: dict[Path, _FileStamp] = {}
        self._retry_at = float("-inf")
        self._retry_seconds = poll_seconds

    def is_due(self) -> bool:
        """Tell whether a file changed since the last look, or what failed may work by now.

        Costs one stat while all is well, three after a refusal.
        """
        has_changed = any(_stamp(path) != stamp for path, stamp in self._seen.items())
        return has_changed or self._monotonic() >= self._retry_at

    def look(
        self, served: ServedVersion | None, *, likeness: ServedVersion | None
    ) -> ServedVersion | None:
        """Return the current version, verified and probed; None if it is the served one.

        Args:
            served: What a newer version must be newer than.
            likeness: A network that is copied rather than built anew, where it is of the kind.

        Raises:
            ArtifactError: It must not be served. Not due again until a file changes, except
                where the reason may pass by itself.
        """
        # What is seen is noted before it is read, so that a change in between is not missed.
        current = self._root / CURRENT
        self._seen = {current: _stamp(current)}
        self._retry_at = float("inf")
        try:
            candidate = self._load(served, likeness)
        except ArtifactError as error:
            self._plan_retry(error.reason)
            raise
        except Exception:
            self._plan_retry("internal")
            raise
        self._seen = {current: self._seen[current]}
        self._retry_seconds = self._poll_seconds
        return candidate

    def _load(
        self, served: ServedVersion | None, likeness: ServedVersion | None
    ) -> ServedVersion | None:
        pointer = read_current(self._root)
        folder = served_folder(self._root, pointer)
        self._seen |= {path: _stamp(path) for path in (folder / MANIFEST, folder / WEIGHTS)}
        if served is not None and not self._is_newer(pointer, served):
            return None
        manifest = read_manifest(folder, sha256=pointer.manifest_sha256)
        self._check_manifest(folder / MANIFEST, manifest, pointer, served)
        if likeness is not None and self._factory is None and likeness.can_hold(manifest):
            network = copy.deepcopy(likeness.network)
        else:
            network = build_network(folder, manifest, factory=self._factory).to(self._device)
        load_weights(folder, manifest, network)
        probe_network(folder, network, manifest, self._probe)
        return ServedVersion(
            network=network, manifest=manifest, manifest_sha256=pointer.manifest_sha256
        )

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
        if served is not None and manifest.lineage != served.manifest.lineage:
            raise ArtifactError(
                path,
                "lineage",
                f"is of lineage {manifest.lineage}, and {served.manifest.lineage} is served; "
                "restart to change over",
            )
        if is_own_code(manifest.architecture) and self._factory is None:
            raise ArtifactError(
                path,
                "code",
                f"asks to import {manifest.architecture.name}; a file must not choose what code "
                "runs: pass that callable as `network`",
            )

    def _plan_retry(self, reason: str) -> None:
        if reason in _TRANSIENT_REASONS:
            self._retry_at = self._monotonic() + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)


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


def _stamp(path: Path) -> _FileStamp:
    """Return what changes when a file is replaced or written; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
