"""A copy of the public folder elsewhere: an object store, or whatever else fsspec writes to.

Object stores have no rename, and a listing may be late. So a version's manifest is written after
its other files and `current` after all, each by one PUT, and whether a file is there is asked of
the file itself. A file system that can rename gets files by rename.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.option_files import read_option_files
from teacherd.models.artifact import (
    MANIFEST,
    SIGNATURE,
    VERSIONS,
    WEIGHTS,
    ArtifactError,
    Manifest,
    read_manifest,
)
from teacherd.models.current_pointer import CURRENT, CurrentPointer, read_current
from teacherd.models.strict_json import StrictJsonError

_RENAMING = {"file", "local", "sftp", "ssh", "smb", "hdfs", "arrow_hdfs"}
"""Kinds whose files are written bit by bit under their name, but can be renamed."""
_FOLDER = re.compile(r"\d{6,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorConfig:
    """A copy of the public folder."""

    url: str
    """Where to: s3://bucket/path, gs://, az://, file:///mnt/share, ... as fsspec writes it."""
    options: dict[str, Any] = field(default_factory=dict)
    """What fsspec's file system of that kind takes, such as `endpoint_url` for s3."""
    option_files: dict[str, str] = field(default_factory=dict)
    """Options whose value is the content of a file: keys and tokens, by name."""
    max_backoff_seconds: float = 300.0
    """Longest pause between attempts while it fails."""

    def __post_init__(self) -> None:
        if "://" not in self.url:
            raise ValueError(
                f"url: {self.url}: must begin with a kind of store, as s3://bucket/path or "
                "file:///mnt/share"
            )
        if self.max_backoff_seconds < 1:
            raise ValueError(
                f"max_backoff_seconds: {self.max_backoff_seconds}: must be at least 1; take 300"
            )


class MirrorError(Exception):
    """The mirror must not be written: it is somebody else's, or is ahead of us.

    `reason` is `lineage` or `newer`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Mirror:
    """Makes one mirror hold what the root holds; what it lacks is all there is to know.

    Raises:
        ConfigurationError: The URL or its options cannot be used.
    """

    def __init__(self, name: str, config: MirrorConfig, root: Path) -> None:
        self._name = name
        self._root = root
        self._files, self._base = _open(f"publication.mirrors.{name}", config)
        self._is_renaming = not _RENAMING.isdisjoint(_kinds(self._files))
        self._known: dict[str, bytes] = {}
        self._ours: set[bytes] = set()

    def converge(self) -> int:
        """Write what the mirror lacks, move its `current`, remove what the root no longer holds.

        Returns:
            How many versions were written.

        Raises:
            MirrorError: It is not ours to write.
            Exception: Whatever the store's library raises; what is missing stays to be written.
        """
        pointer = _served(self._root)
        if pointer is None:
            return 0
        there = self._pointer()
        manifest = read_manifest(self._root / pointer.folder)
        if there is not None and there != pointer:
            self._require_ours(there, pointer, manifest)
        # The served version first: somebody waits for it.
        folders = sorted((self._root / VERSIONS).iterdir(), reverse=True)
        folders.sort(key=lambda folder: folder != self._root / pointer.folder)
        num_written = sum(self._write_version(f) for f in folders if _FOLDER.fullmatch(f.name))
        if there != pointer:
            self._put(CURRENT, pointer.to_bytes())
        self._prune(pointer)
        return num_written

    @property
    def served(self) -> int | None:
        """The version that the mirror's `current` names, asked for now."""
        pointer = self._pointer()
        return None if pointer is None else pointer.version

    def _require_ours(
        self, there: CurrentPointer, pointer: CurrentPointer, manifest: Manifest
    ) -> None:
        """Refuse to write over another lineage, or to take loaders back to an older version."""
        text = self._get(f"{there.folder}/{MANIFEST}")
        if text is not None and text not in self._ours:
            try:
                lineage = Manifest.from_json(text).lineage
            except StrictJsonError:
                lineage = manifest.lineage  # damaged: to be written anew
            if lineage != manifest.lineage:
                raise MirrorError(
                    "lineage",
                    f"holds lineage {lineage}, this one is {manifest.lineage}; give each lineage a "
                    "place of its own, or empty this one",
                )
            self._ours.add(text)
        order, ours = (there.epoch, there.version), (pointer.epoch, pointer.version)
        if order > ours:
            raise MirrorError(
                "newer",
                f"serves epoch and version {order}, and {ours} is served here: another daemon "
                "writes there, or this state is older; restore it with `teacherd restore`",
            )

    def _write_version(self, folder: Path) -> bool:
        """Write a version unless it is there; return whether it was written."""
        name = f"{VERSIONS}/{folder.name}"
        try:
            text = (folder / MANIFEST).read_bytes()
            signature = _read_optional(folder / SIGNATURE)
            weights = folder / WEIGHTS
            mark = text + (signature or b"")
            if self._known.get(name) == mark:
                return False
            is_there = self._holds(name, text, signature, weights.stat().st_size)
            if not is_there:
                self._put_weights(f"{name}/{WEIGHTS}", weights)
                if signature is not None:
                    self._put(f"{name}/{SIGNATURE}", signature)
                self._put(f"{name}/{MANIFEST}", text)
        except FileNotFoundError:
            if folder.exists():
                raise
            return False  # pruned here meanwhile, so it goes there too
        self._known[name] = mark
        return not is_there

    def _holds(self, name: str, text: bytes, signature: bytes | None, num_bytes: int) -> bool:
        return (
            self._get(f"{name}/{MANIFEST}") == text
            and (signature is None or self._get(f"{name}/{SIGNATURE}") == signature)
            and self._size(f"{name}/{WEIGHTS}") == num_bytes
        )

    def _put_weights(self, name: str, source: Path) -> None:
        target = self._place(name)
        written = f"{target}.tmp" if self._is_renaming else target
        self._make_parent(target)
        self._files.put_file(str(source), written)
        size = self._size_of(written)
        if size != source.stat().st_size:
            raise OSError(f"{written}: has {size} bytes after writing {source.stat().st_size}")
        if self._is_renaming:
            self._files.mv(written, target)

    def _put(self, name: str, content: bytes) -> None:
        target = self._place(name)
        self._make_parent(target)
        if self._is_renaming:
            self._files.pipe_file(f"{target}.tmp", content)
            self._files.mv(f"{target}.tmp", target)
        else:
            self._files.pipe_file(target, content)

    def _make_parent(self, target: str) -> None:
        # An object store knows no folders, and would take this for the making of a bucket.
        if self._is_renaming:
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)

    def _prune(self, pointer: CurrentPointer) -> None:
        """Remove versions that the root no longer holds, manifest first: half of one is none."""
        try:
            listed = self._files.ls(self._place(VERSIONS), detail=False)
        except FileNotFoundError:
            return
        kept = {path.name for path in (self._root / VERSIONS).iterdir()}
        kept.add(Path(pointer.folder).name)
        for path in listed:
            name = path.rstrip("/").rpartition("/")[2]
            if not _FOLDER.fullmatch(name) or name in kept:
                continue
            self._known.pop(f"{VERSIONS}/{name}", None)
            for part in (MANIFEST, SIGNATURE, WEIGHTS):
                self._remove(f"{VERSIONS}/{name}/{part}")
            if self._is_renaming:
                self._files.rm(path, recursive=True)

    def _remove(self, name: str) -> None:
        if self._size(name) is not None:
            self._files.rm_file(self._place(name))

    def _pointer(self) -> CurrentPointer | None:
        content = self._get(CURRENT)
        if content is None:
            return None
        try:
            return CurrentPointer.from_bytes(content)
        except StrictJsonError:
            return None  # damaged: to be written anew

    def _get(self, name: str) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(self._place(name))
        except FileNotFoundError:
            return None
        return content

    def _size(self, name: str) -> int | None:
        try:
            return self._size_of(self._place(name))
        except FileNotFoundError:
            return None

    def _size_of(self, path: str) -> int:
        size: int = self._files.info(path)["size"]
        return size

    def _place(self, name: str) -> str:
        return f"{self._base}/{name}"


def _open(key: str, config: MirrorConfig) -> tuple[Any, str]:
    try:
        # Only who mirrors needs it.
        import fsspec  # noqa: PLC0415 - see the line above
    except ImportError as error:
        message = f"{config.url}: needs fsspec: pip install 'teacherd[mirrors]'"
        raise ConfigurationError([Problem(f"{key}.url", message)]) from error
    options = {**config.options, **read_option_files(key, config.option_files)}
    try:
        # A listing that was kept would hide what another process wrote or removed.
        files, base = fsspec.core.url_to_fs(
            config.url, use_listings_cache=False, skip_instance_cache=True, **options
        )
    except (ImportError, ValueError, TypeError) as error:
        message = f"{config.url}: cannot be used: {error}"
        raise ConfigurationError([Problem(f"{key}.url", message)]) from error
    return files, base.rstrip("/")


def _kinds(files: Any) -> set[str]:  # noqa: ANN401 - fsspec tells no types
    protocol = files.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


def _served(root: Path) -> CurrentPointer | None:
    try:
        return read_current(root)
    except ArtifactError:
        return None


def _read_optional(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
