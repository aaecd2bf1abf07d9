"""Versions on disk: folders that appear at once and never change, and which one is served."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from teacherd.daemon.durable import remove, remove_temporaries, write_file, write_folder
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage
from teacherd.models.artifact import (
    CURRENT,
    VERSIONS,
    ArtifactError,
    CurrentPointer,
    LoadedTeacher,
    Manifest,
    load_artifact,
    read_current,
    version_folder,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicationConfig:
    """How versions are kept for those who load them."""

    keep_versions: int = 50
    """Newest versions kept on disk besides version 0, the head and the served one."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.keep_versions < 1:
            raise ValueError(f"keep_versions: {self.keep_versions} is less than 1; take 50")


class VersionStore:
    """Owns `versions/` and `current` below a root that inference processes read.

    Raises:
        StateError: The root cannot be used.
    """

    def __init__(self, config: PublicationConfig, root: Path) -> None:
        self._keep = config.keep_versions
        self.root = root
        try:
            (root / VERSIONS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(root, f"cannot be used: {error.strerror}") from error

    def write(self, version: int, fill: Callable[[Path], Manifest]) -> Manifest:
        """Make a version's folder appear; a leftover of an undecided attempt is replaced.

        Raises:
            StateError: The disk refused; nothing has appeared.
        """
        folder = version_folder(self.root, version)
        if folder.exists():
            shutil.rmtree(folder)
        return write_folder(folder, fill, name="version")

    def load(self, version: int, sha256: str, *, device: str = "cpu") -> LoadedTeacher:
        """Load a version and hold it against the lineage log.

        Raises:
            StateError: It is not what the log says, or damaged.
        """
        folder = version_folder(self.root, version)
        try:
            loaded = load_artifact(folder, device=device)
        except ArtifactError as error:
            raise StateError(folder, str(error)) from error
        if loaded.manifest.weights_sha256 != sha256:
            raise StateError(
                folder, f"has weights that are not those of the lineage log ({sha256})"
            )
        return loaded

    def serve(self, manifest: Manifest) -> None:
        """Point `current` at a version.

        Raises:
            StateError: The disk refused; what was served is served still.
        """
        pointer = CurrentPointer.to(self.root, manifest)
        write_file(self.root / CURRENT, pointer.to_bytes())

    def mend(self, lineage: Lineage) -> list[str]:
        """Remove what a crash left that no entry names, and return what it was."""
        leftovers = remove_temporaries(self.root) + remove_temporaries(self.root / VERSIONS)
        known = {version_folder(self.root, version) for version in lineage.versions}
        unnamed = [path for path in (self.root / VERSIONS).iterdir() if path not in known]
        for path in unnamed:
            remove(path)
        return [path.name for path in leftovers + unnamed]

    def served(self) -> CurrentPointer | None:
        """Return what `current` says, None where there is none or it cannot be read."""
        try:
            return read_current(self.root)
        except ArtifactError:
            return None

    def prune(self, lineage: Lineage) -> None:
        """Remove the oldest versions, never version 0, the head or the served one."""
        pinned = {0, lineage.head, lineage.current}
        for version in sorted(lineage.versions)[: -self._keep]:
            if version not in pinned:
                shutil.rmtree(version_folder(self.root, version), ignore_errors=True)
