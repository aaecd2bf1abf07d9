"""Which version is served: `current` beside the folders of the versions."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from teacherd.models.artifact import (
    LARGEST_MANIFEST_BYTES,
    MANIFEST,
    ArtifactError,
    Manifest,
    check_sha256,
    read_file,
    version_folder,
)
from teacherd.models.provenance import check_order
from teacherd.models.strict_json import StrictJsonError, parse

CURRENT = "current"

LARGEST_POINTER_BYTES = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentPointer:
    """Which version is served: the content of `current`, which is only ever replaced as a whole."""

    epoch: int
    """Epoch of the version."""

    version: int
    """Number of the version."""

    folder: str
    """Where it lies, relative to the folder of `current`."""

    manifest_sha256: str
    """Hex digest of its manifest.json, which holds the digest of the weights."""

    def __post_init__(self) -> None:
        check_order(self.epoch, self.version)
        path = PurePosixPath(self.folder)
        is_below = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
        if not (is_below and self.folder.isascii() and self.folder.isprintable()):
            raise ValueError(f"folder: {self.folder!r}: must be a relative path that stays below")
        check_sha256("manifest_sha256", self.manifest_sha256)

    @classmethod
    def to(cls, root: Path, manifest: Manifest) -> Self:
        """Return the pointer to a version whose folder is in its place below the root.

        Raises:
            ArtifactError: It is not there.
        """
        folder = version_folder(root, manifest.version)
        text = read_file(folder / MANIFEST, largest_bytes=LARGEST_MANIFEST_BYTES)
        return cls(
            epoch=manifest.epoch,
            version=manifest.version,
            folder=folder.relative_to(root).as_posix(),
            manifest_sha256=hashlib.sha256(text).hexdigest(),
        )

    def to_bytes(self) -> bytes:
        """Return the content of `current`."""
        return (json.dumps(dataclasses.asdict(self)) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return what the content of `current` says.

        Raises:
            StrictJsonError: A key is unknown, missing, ill-typed or holds what it must not.
        """
        return parse(cls, content)


def read_current(root: Path) -> CurrentPointer:
    """Return which version is served.

    Raises:
        ArtifactError: There is no `current`, or it is damaged.
    """
    path = root / CURRENT
    content = read_file(path, largest_bytes=LARGEST_POINTER_BYTES)
    try:
        return CurrentPointer.from_bytes(content)
    except StrictJsonError as error:
        raise ArtifactError(path, "pointer", str(error)) from error


def served_folder(root: Path, pointer: CurrentPointer) -> Path:
    """Return the folder that `current` names.

    Raises:
        ArtifactError: It lies, by way of a link, outside the root.
    """
    folder = root / pointer.folder
    try:
        is_inside = folder.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        raise ArtifactError(folder, "path", f"leads nowhere: {error}") from error
    if not is_inside:
        raise ArtifactError(folder, "path", f"leads out of {root}")
    return folder
