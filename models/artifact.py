"""The public form of a teacher: what lies in a version's folder, how it is written and verified.

A folder holds `teacher.safetensors` and `manifest.json` and never changes. That it appears durably
and at once is the writer's business.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from teacherd.models.backbone import BackboneConfig, NetworkFactory, build_backbone
from teacherd.models.design import Design
from teacherd.models.plain_file import PlainFileError, read_plain_file
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.provenance import Provenance
from teacherd.models.signature import SIGNATURE_BYTES, SignatureError, TrustedKeys
from teacherd.models.strict_json import OPTIONAL, StrictJsonError, parse
from teacherd.models.weights import (
    WeightsError,
    deserialize_weights,
    fill_network,
    serialize_weights,
)

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "teacher.safetensors"
SIGNATURE = "manifest.sig"
VERSIONS = "versions"

LARGEST_MANIFEST_BYTES = 16 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactError(Exception):
    """What lies there is no version that can be used.

    `reason` is one word of the small set in docs/hot-loading.md, fit for a metric's label.
    """

    def __init__(self, path: Path | str, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a version is, where it comes from and how to use it."""

    format: int = FORMAT
    """Layout of the version's folder; readers refuse any other."""

    lineage: str
    """Id of the lineage; empty for a base model that has opened none yet."""

    epoch: int
    """Raised when a lineage is restored from a backup, so that (epoch, version) still grows."""

    version: int
    """Number within the lineage; 0 is the base model."""

    architecture: BackboneConfig
    """The network whose weights these are."""

    classes: tuple[str, ...]
    """Names of the logits, in their order."""

    increments: tuple[int, ...] | None = field(default=None, metadata={OPTIONAL: True})
    """How many of them came at a time, where new ones came later; None: all at once, which is what
    a manifest that does not say means."""

    preprocessing: Preprocessing
    """What raw inputs go through before the network."""

    sigma: float | None
    """Calibrated deviation of the dust (method.md, 2.3); None before the first calibration."""

    weights_sha256: str
    """Hex digest of teacher.safetensors."""

    weights_bytes: int
    """Size of teacher.safetensors."""

    parent: int | None
    """The version that this one was learned from; None for a base model."""

    tasks: tuple[int, ...]
    """Numbers of the tasks that it contains and its parent does not."""

    verdict: dict[str, Any]
    """Why it was accepted, as the gate wrote it down."""

    metrics: dict[str, float]
    """Figures of its measurement by name; finite."""

    created_at: str
    """When it was written, ISO 8601 with an offset."""

    torch: str
    """Version of torch that wrote it."""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format: {self.format}: must be {FORMAT}; update teacherd")
        _ = self.design, self.provenance  # which refuse what they must not hold
        check_sha256("weights_sha256", self.weights_sha256)
        if self.weights_bytes < 1:
            raise ValueError(f"weights_bytes: {self.weights_bytes}: must be at least 1")

    @property
    def design(self) -> Design:
        """How the network is built and used."""
        return Design(
            architecture=self.architecture,
            classes=self.classes,
            increments=self.increments,
            preprocessing=self.preprocessing,
            sigma=self.sigma,
        )

    @property
    def provenance(self) -> Provenance:
        """Where the version comes from."""
        return Provenance(
            lineage=self.lineage,
            epoch=self.epoch,
            version=self.version,
            parent=self.parent,
            tasks=self.tasks,
            verdict=self.verdict,
            metrics=self.metrics,
            created_at=self.created_at,
        )

    def to_json(self) -> str:
        """Return the text of manifest.json; readers that know no later keys can read most."""
        content = dataclasses.asdict(self)
        if self.increments is None:
            del content["increments"]
        if not self.architecture.class_means:
            del content["architecture"]["class_means"]
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return what the text of manifest.json says.

        Raises:
            StrictJsonError: A key is unknown, missing, ill-typed or holds what it must not.
        """
        return parse(cls, text)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedTeacher:
    """A verified version, ready to use."""

    network: nn.Module
    """In eval mode."""

    manifest: Manifest
    """What it is."""


def version_folder(root: Path, version: int) -> Path:
    """Return where a version lies below the root."""
    return root / VERSIONS / f"{version:06d}"


def write_artifact(
    folder: Path, network: nn.Module, design: Design, provenance: Provenance
) -> Manifest:
    """Put weights and manifest into an existing, empty folder; not durable by itself.

    Raises:
        ValueError: The weights cannot be kept, or the folder is not empty.
        OSError: The disk refused.
    """
    if any(folder.iterdir()):
        raise ValueError(f"folder: {folder}: must be empty; a version is never rewritten")
    weights = serialize_weights(network)
    manifest = Manifest(
        lineage=provenance.lineage,
        epoch=provenance.epoch,
        version=provenance.version,
        architecture=design.architecture,
        classes=design.classes,
        increments=design.increments,
        preprocessing=design.preprocessing,
        sigma=design.sigma,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        weights_bytes=len(weights),
        parent=provenance.parent,
        tasks=provenance.tasks,
        verdict=dict(provenance.verdict),
        metrics={name: float(value) for name, value in provenance.metrics.items()},
        created_at=provenance.created_at,
        torch=torch.__version__,
    )
    (folder / WEIGHTS).write_bytes(weights)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def read_manifest(
    folder: Path, *, sha256: str | None = None, trusted: TrustedKeys | None = None
) -> Manifest:
    """Return the manifest of a version, held against digest and signature where they are asked.

    Raises:
        ArtifactError: There is none, or it is damaged; the message names key and value.
    """
    path = folder / MANIFEST
    text = read_file(path, largest_bytes=LARGEST_MANIFEST_BYTES)
    signature = None if trusted is None else read_signature(folder)
    return verify_manifest(path, text, sha256=sha256, signature=signature, trusted=trusted)


def read_signature(folder: Path) -> bytes | None:
    """Return the signature of a version's manifest, None where there is none.

    Raises:
        ArtifactError: It cannot be read.
    """
    try:
        return read_file(folder / SIGNATURE, largest_bytes=SIGNATURE_BYTES)
    except ArtifactError as error:
        if error.reason == "missing":
            return None
        raise


def verify_manifest(
    path: Path | str,
    text: bytes,
    *,
    sha256: str | None,
    signature: bytes | None,
    trusted: TrustedKeys | None,
) -> Manifest:
    """Return what a manifest says, once its bytes are the ones that were meant.

    Raises:
        ArtifactError: They are others, are not signed by whom they should be, or say nonsense.
    """
    digest = hashlib.sha256(text).hexdigest()
    if sha256 not in (None, digest):
        raise ArtifactError(path, "checksum", f"has sha256 {digest}, current says {sha256}")
    if trusted is not None:
        if signature is None:
            raise ArtifactError(path, "signature", f"has no {SIGNATURE} beside it")
        try:
            trusted.check(text, signature)
        except SignatureError as error:
            raise ArtifactError(path, "signature", f"{SIGNATURE} beside it {error}") from error
    try:
        return Manifest.from_json(text)
    except StrictJsonError as error:
        raise ArtifactError(path, "manifest", str(error)) from error


def load_artifact(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    factory: NetworkFactory | None = None,
) -> LoadedTeacher:
    """Return the verified network of a version, in eval mode, on the device.

    Checked are size and sha256, that names, shapes and types are the network's, and that all
    weights are finite. If the manifest names a callable of the user's own, it is imported and
    called, or `factory` in its place: only load such a folder if you trust it. The random
    generator is left as it was.

    Raises:
        ArtifactError: It is no version that can be used.
    """
    manifest = read_manifest(folder)
    network = build_network(folder, manifest, factory=factory)
    load_weights(folder, manifest, network)
    return LoadedTeacher(network=network.to(device), manifest=manifest)


def verify_artifact(folder: Path) -> Manifest:
    """Check a version as `load_artifact` does and return its manifest.

    Raises:
        ArtifactError: It is no version that can be used.
    """
    return load_artifact(folder).manifest


def build_network(
    folder: Path, manifest: Manifest, *, factory: NetworkFactory | None = None
) -> nn.Module:
    """Return the manifest's network in eval mode, with fresh weights.

    Raises:
        ArtifactError: It cannot be built here.
    """
    try:
        # Fresh weights draw from the generator of a process in which we are only a guest.
        with torch.random.fork_rng(devices=[]):
            network = build_backbone(
                manifest.architecture, num_classes=len(manifest.classes), factory=factory
            )
    except ValueError as error:
        raise ArtifactError(folder / MANIFEST, "network", f"architecture.{error}") from error
    return network.eval()


def load_weights(folder: Path, manifest: Manifest, network: nn.Module) -> None:
    """Verify a version's weights and copy them into a network, which is untouched on failure.

    Raises:
        ArtifactError: They are missing, damaged, of another network, or not finite.
    """
    tensors = read_tensors(folder, manifest)
    try:
        fill_network(network, tensors)
    except WeightsError as error:
        raise ArtifactError(folder / WEIGHTS, error.reason, str(error)) from error


def read_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Return a version's weights by name, verified, without a network to hold them against.

    Raises:
        ArtifactError: They are missing or damaged.
    """
    path = folder / WEIGHTS
    data = read_file(path, largest_bytes=manifest.weights_bytes)
    if len(data) != manifest.weights_bytes:
        raise ArtifactError(
            path, "size", f"has {len(data)} bytes, the manifest says {manifest.weights_bytes}"
        )
    try:
        return deserialize_weights(data, sha256=manifest.weights_sha256)
    except WeightsError as error:
        raise ArtifactError(path, error.reason, str(error)) from error


def read_file(path: Path, *, largest_bytes: int) -> bytes:
    """Return the content of one of a version's files.

    Raises:
        ArtifactError: There is none, or it cannot be read.
    """
    try:
        return read_plain_file(path, largest_bytes=largest_bytes)
    except PlainFileError as error:
        raise ArtifactError(path, error.reason, str(error)) from error


def check_sha256(key: str, digest: str) -> None:
    """Refuse what is no digest.

    Raises:
        ValueError: It is not 64 lower-case hexadecimal digits.
    """
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"{key}: {digest!r}: must be 64 lower-case hexadecimal digits")
