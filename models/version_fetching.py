"""Bringing the served version of a remote root into a directory of this machine.

What lies in the cache has the same form as a root, so that it is watched, verified and loaded as
one. Nothing that the other side says becomes a path here.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from teacherd.models.artifact import (
    LARGEST_MANIFEST_BYTES,
    MANIFEST,
    SIGNATURE,
    VERSIONS,
    WEIGHTS,
    ArtifactError,
    Manifest,
    read_manifest,
    verify_manifest,
)
from teacherd.models.current_pointer import (
    CURRENT,
    LARGEST_POINTER_BYTES,
    CurrentPointer,
    read_current,
)
from teacherd.models.signature import SIGNATURE_BYTES, TrustedKeys
from teacherd.models.strict_json import StrictJsonError
from teacherd.models.transport import Transport, TransportError

T = TypeVar("T")

_LOCK = "lock"
_PARTIAL = ".partial-"
_TEMPORARY = ".tmp-"


class VersionFetcher:
    """Copies what `current` names into the cache, then moves the cache's own `current`.

    Several processes may share a cache: one fetches, the others find what it fetched. The cache
    never goes back to an older version of the same lineage, also not after a restart.

    Args:
        largest_bytes: Weights larger than this are not fetched.
        should_stop: Asked now and then; a download is left where it is, to be taken up later.
    """

    def __init__(
        self,
        transport: Transport,
        cache: Path,
        *,
        trusted: TrustedKeys | None,
        largest_bytes: int,
        should_stop: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._cache = cache
        self._trusted = trusted
        self._largest_bytes = largest_bytes
        self._should_stop = should_stop

    def fetch(self) -> None:
        """Bring in the served version, if it is not here yet.

        Raises:
            ArtifactError: It cannot be had, or must not be.
        """
        with self._locked() as is_ours:
            if not is_ours:
                return
            try:
                self._fetch()
            except ArtifactError:
                self._transport.forget(CURRENT)
                raise
            except OSError as error:
                self._transport.forget(CURRENT)
                raise ArtifactError(
                    self._cache, "cache", f"cannot be written: {error.strerror or error}"
                ) from error

    def distrust(self, damaged: Path | str) -> None:
        """Throw away the version that a damaged file is of; the next fetch gets it anew.

        Only if it is still the one that others would load: a process that was slow finds the files
        of a version gone that is two behind by now, and nothing is wrong with the newest.
        """
        self._transport.forget(CURRENT)
        pointer = self._cached()
        if pointer is None:
            return
        folder = self._cache / pointer.folder
        if Path(damaged).resolve().is_relative_to(folder.resolve()):
            shutil.rmtree(folder, ignore_errors=True)

    def _fetch(self) -> None:
        content = self._ask(
            CURRENT,
            lambda: self._transport.read_if_changed(CURRENT, largest_bytes=LARGEST_POINTER_BYTES),
        )
        if content is None:
            return
        try:
            offered = CurrentPointer.from_bytes(content)
        except StrictJsonError as error:
            raise ArtifactError(self._place(CURRENT), "pointer", str(error)) from error
        ours = replace(offered, folder=f"{VERSIONS}/{offered.epoch}-{offered.version:06d}")
        if self._cached() == ours and (self._cache / ours.folder).is_dir():
            return
        text, signature, manifest = self._read_manifest(offered)
        self._require_newer(offered, manifest)
        weights = self._download(f"{offered.folder}/{WEIGHTS}", manifest)
        self._install(ours, text, signature, weights)

    def _read_manifest(self, offered: CurrentPointer) -> tuple[bytes, bytes | None, Manifest]:
        name = f"{offered.folder}/{MANIFEST}"
        text = self._ask(
            name, lambda: self._transport.read(name, largest_bytes=LARGEST_MANIFEST_BYTES)
        )
        signature = self._read_signature(f"{offered.folder}/{SIGNATURE}")
        manifest = verify_manifest(
            self._place(name),
            text,
            sha256=offered.manifest_sha256,
            signature=signature,
            trusted=self._trusted,
        )
        if manifest.weights_bytes > self._largest_bytes:
            raise ArtifactError(
                self._place(name),
                "size",
                f"announces {manifest.weights_bytes} bytes of weights, at most "
                f"{self._largest_bytes} are taken",
            )
        return text, signature, manifest

    def _read_signature(self, name: str) -> bytes | None:
        try:
            return self._transport.read(name, largest_bytes=SIGNATURE_BYTES)
        except TransportError as error:
            if error.reason == "missing":
                return None
            raise ArtifactError(self._place(name), error.reason, str(error)) from error

    def _require_newer(self, offered: CurrentPointer, manifest: Manifest) -> None:
        """Refuse to go back, as a running loader would, before anything is replaced."""
        order = (offered.epoch, offered.version)
        if (manifest.epoch, manifest.version) != order:
            raise ArtifactError(
                self._place(f"{offered.folder}/{MANIFEST}"),
                "manifest",
                f"is of {(manifest.epoch, manifest.version)}, which current does not name",
            )
        cached = self._cached()
        if cached is None:
            return
        try:
            here = read_manifest(self._cache / cached.folder)
        except ArtifactError:
            return  # damaged: whatever is offered is better
        ours = (cached.epoch, cached.version)
        is_same = order == ours and offered.manifest_sha256 == cached.manifest_sha256
        if manifest.lineage == here.lineage and order <= ours and not is_same:
            raise ArtifactError(
                self._place(CURRENT),
                "downgrade",
                f"names epoch and version {order}, and {ours} was fetched before; numbers only "
                "grow, a roll back is a new version",
            )

    def _download(self, name: str, manifest: Manifest) -> Path:
        """Return a file with the weights, verified; goes on where an earlier attempt broke off."""
        partial = self._cache / f"{_PARTIAL}{manifest.weights_sha256}"
        size = manifest.weights_bytes
        with partial.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            if file.tell() < size:
                self._ask(name, lambda: self._append(name, file, size))
            file.flush()
            os.fsync(file.fileno())
            length = file.tell()
        if length < size:
            raise ArtifactError(
                self._place(name), "unreachable", f"broke off after {length} of {size} bytes"
            )
        digest = _sha256(partial)
        if digest != manifest.weights_sha256:
            partial.unlink()
            raise ArtifactError(
                self._place(name),
                "checksum",
                f"has sha256 {digest}, the manifest says {manifest.weights_sha256}",
            )
        return partial

    def _append(self, name: str, file: Any, size: int) -> None:  # noqa: ANN401 - a binary file
        for place, chunk in self._transport.stream(name, start=file.tell(), end=size):
            if place > file.tell():
                raise TransportError("unreachable", f"sends from {place}, not {file.tell()}")
            if place < file.tell():
                file.truncate(place)
                file.seek(place)
            # Not a byte more than was announced, whatever comes.
            file.write(chunk[: size - place])
            if file.tell() >= size or self._should_stop():
                return

    def _install(
        self, ours: CurrentPointer, text: bytes, signature: bytes | None, weights: Path
    ) -> None:
        """Make the version appear whole, then point at it, then remove what is older."""
        folder = self._cache / ours.folder
        fresh = self._cache / f"{_TEMPORARY}{folder.name}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _write(fresh / MANIFEST, text)
        if signature is not None:
            _write(fresh / SIGNATURE, signature)
        weights.rename(fresh / WEIGHTS)
        before = self._cached()
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        fresh.rename(folder)
        pointer = self._cache / f"{_TEMPORARY}{CURRENT}"
        _write(pointer, ours.to_bytes())
        pointer.rename(self._cache / CURRENT)
        # The one before stays: another process may be reading it.
        kept = {ours.folder, before.folder if before else ours.folder}
        for path in (*(self._cache / VERSIONS).iterdir(), *self._cache.glob(f"{_PARTIAL}*")):
            if f"{VERSIONS}/{path.name}" not in kept:
                _remove(path)

    def _cached(self) -> CurrentPointer | None:
        try:
            return read_current(self._cache)
        except ArtifactError:
            return None

    def _ask(self, name: str, question: Callable[[], T]) -> T:
        try:
            return question()
        except TransportError as error:
            raise ArtifactError(self._place(name), error.reason, str(error)) from error

    def _place(self, name: str) -> str:
        return self._transport.place(name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            lock = (self._cache / _LOCK).open("ab")
        except OSError as error:
            raise ArtifactError(
                self._cache,
                "cache",
                f"cannot be used: {error.strerror}; name a writable directory as `cache`",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
