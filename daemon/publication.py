"""Versions on disk: folders that appear at once and never change, and which one is served."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from teacherd.daemon.durable import (
    make_directory,
    remove,
    remove_folder,
    remove_temporaries,
    write_file,
    write_folder,
)
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.mirror import MirrorConfig
from teacherd.daemon.signing import ensure_signed, load_signing_key, sign_folder
from teacherd.models.artifact import (
    MANIFEST,
    VERSIONS,
    ArtifactError,
    LoadedTeacher,
    Manifest,
    load_artifact,
    version_folder,
)
from teacherd.models.current_pointer import CURRENT, CurrentPointer, read_current

PublicationMode = Literal["automatic", "approval", "never"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicationConfig:
    """How versions are kept for those who load them."""

    mode: PublicationMode = "automatic"
    """automatic serves what passes the gate; approval waits for `teacherd promote VERSION`; never
    learns in the shadow and serves nothing new."""
    keep_versions: int = 50
    """Newest versions kept on disk besides version 0, the head and the served one."""
    signing_key_file: str | None = None
    """PEM file of an Ed25519 key that signs every version, for HotTeacher(public_key=...); null
    signs none."""
    mirrors: dict[str, MirrorConfig] = field(default_factory=dict)
    """Name to a place where the public folder is copied to: `url`, `options`, `option_files`,
    `max_backoff_seconds`; docs/operating.md."""

    def __post_init__(self) -> None:
        if self.keep_versions < 1:
            raise ValueError(f"keep_versions: {self.keep_versions}: must be at least 1; take 50")


class VersionStore:
    """Owns `versions/` and `current` below a root that inference processes read.

    Raises:
        ConfigurationError: The key to sign with cannot be used.
        StateError: The root cannot be used.
    """

    def __init__(self, config: PublicationConfig, root: Path) -> None:
        self._keep = config.keep_versions
        self._key = load_signing_key(config.signing_key_file)
        self._listeners: list[Callable[[], None]] = []
        self.root = root
        try:
            make_directory(root / VERSIONS)
        except OSError as error:
            raise StateError(root, f"cannot be used: {error.strerror}") from error

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have a function called after each change of `current`; it must return at once."""
        self._listeners.append(listener)

    def write(self, version: int, fill: Callable[[Path], Manifest]) -> Manifest:
        """Make a version's folder appear; a leftover of an undecided attempt is replaced.

        Raises:
            StateError: The disk refused; nothing has appeared.
        """
        folder = version_folder(self.root, version)
        if folder.exists():
            self._remove(folder)

        def fill_and_sign(fresh: Path) -> Manifest:
            manifest = fill(fresh)
            if self._key is not None:
                sign_folder(fresh, self._key)
            return manifest

        return write_folder(folder, fill_and_sign, name="version")

    def manifest_sha256(self, version: int) -> str:
        """Return the digest of a written version's manifest, for the lineage log.

        Raises:
            StateError: It cannot be read.
        """
        path = version_folder(self.root, version) / MANIFEST
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise StateError(path, f"cannot be read: {error.strerror}") from error

    def load(
        self,
        version: int,
        sha256: str,
        manifest_sha256: str | None = None,
        *,
        device: str = "cpu",
    ) -> LoadedTeacher:
        """Load a version and hold it against the lineage log.

        Args:
            version: Which.
            sha256: Of its weights.
            manifest_sha256: Of its manifest; None where the log does not say.
            device: Where to put the network.

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
        if manifest_sha256 not in {None, self.manifest_sha256(version)}:
            raise StateError(
                folder / MANIFEST, f"is not that of the lineage log ({manifest_sha256})"
            )
        return loaded

    def serve(self, manifest: Manifest) -> None:
        """Point `current` at a version.

        Raises:
            StateError: The version is not there, or the disk refused; what was served is served
                still.
        """
        write_file(self.root / CURRENT, self._pointer_to(manifest).to_bytes())
        for listener in self._listeners:
            listener()

    def serves(self, manifest: Manifest) -> bool:
        """Tell whether `current` leads to just this version.

        Raises:
            StateError: The version is not there.
        """
        return self.served() == self._pointer_to(manifest)

    def mend(self, lineage: Lineage) -> list[str]:
        """Remove what a crash left that no entry names, and return what it was.

        What is kept gets the signature that it lacks: the key may be a new one.

        Raises:
            StateError: The disk refused, or there are versions of a lineage whose log is lost.
        """
        try:
            leftovers = remove_temporaries(self.root) + remove_temporaries(self.root / VERSIONS)
        except OSError as error:
            raise StateError(self.root, f"cannot be tidied up: {error.strerror}") from error
        known = {version_folder(self.root, version) for version in lineage.versions}
        unnamed = [path for path in (self.root / VERSIONS).iterdir() if path not in known]
        # A first start that was cut short leaves version 0 and no other.
        if lineage.opening is None and set(unnamed) - {version_folder(self.root, 0)}:
            raise StateError(
                self.root,
                "holds versions, but the lineage log beside it is empty: restore the log from a "
                "backup, or name another process.state_directory",
            )
        for path in unnamed:
            self._remove(path)
        if self._key is not None:
            for version, record in lineage.versions.items():
                ensure_signed(version_folder(self.root, version), self._key, sha256=record.sha256)
        return [path.name for path in leftovers + unnamed]

    def served(self) -> CurrentPointer | None:
        """Return what `current` says, None where there is none or it cannot be read."""
        try:
            return read_current(self.root)
        except ArtifactError:
            return None

    def prune(self, lineage: Lineage) -> None:
        """Remove the oldest versions, never version 0, the head or the served one.

        Raises:
            StateError: The disk refused to take the name away.
        """
        kept = lineage.pinned | set(range(lineage.next_version - self._keep, lineage.next_version))
        # By what is on the disk: the versions of years are more than anybody should ask it for.
        for folder in sorted((self.root / VERSIONS).iterdir()):
            if folder.name.isdecimal() and int(folder.name) not in kept:
                try:
                    remove_folder(folder)
                except OSError as error:
                    raise StateError(folder, f"cannot be removed: {error.strerror}") from error

    def _pointer_to(self, manifest: Manifest) -> CurrentPointer:
        try:
            return CurrentPointer.to(self.root, manifest)
        except ArtifactError as error:
            raise StateError(version_folder(self.root, manifest.version), str(error)) from error

    def _remove(self, path: Path) -> None:
        try:
            remove(path)
        except OSError as error:
            raise StateError(path, f"cannot be removed: {error.strerror}") from error
