"""Files in an object store, or wherever else fsspec reads; fsspec is imported when asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

from teacherd.models.transport import TransportError

_CHUNK_BYTES = 8 * 2**20


class ObjectTransport:
    """Reads below a URL that fsspec knows: s3://, gs://, az://, memory://, ...

    Only single objects are read, never a listing: listings may be late.

    Args:
        url: Where `current` lies.
        options: What the file system of that kind takes: keys, endpoints, regions.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any]) -> None:
        try:
            import fsspec  # noqa: PLC0415 - only who reads from an object store needs it
        except ImportError as error:
            raise ValueError(
                f"root: {url}: fsspec is not installed; pip install 'teacherd[mirrors]'"
            ) from error
        try:
            # A directory listing that was kept would hide what is new.
            self._files, self._base = fsspec.core.url_to_fs(
                url, **{"use_listings_cache": False, "skip_instance_cache": True, **options}
            )
        except (ImportError, ValueError, TypeError) as error:
            raise ValueError(f"root: {url}: cannot be used: {error}") from error
        self._base = self._base.rstrip("/")
        self._seen: dict[str, bytes] = {}

    def place(self, name: str) -> str:
        """Return the address of a file."""
        place: str = self._files.unstrip_protocol(f"{self._base}/{name}")
        return place

    def read(self, name: str, *, largest_bytes: int) -> bytes:
        """Return a small file.

        Raises:
            TransportError: It is not there, too large, or nobody answers.
        """
        content = self._part(name, 0, largest_bytes + 1)
        if len(content) > largest_bytes:
            raise TransportError("size", f"has more than the {largest_bytes} bytes expected")
        return content

    def read_if_changed(self, name: str, *, largest_bytes: int) -> bytes | None:
        """Return a small file; None if it holds what it held the last time.

        Raises:
            TransportError: It is not there, too large, or nobody answers.
        """
        content = self.read(name, largest_bytes=largest_bytes)
        if self._seen.get(name) == content:
            return None
        self._seen[name] = content
        return content

    def forget(self, name: str) -> None:
        """Take the file for changed at the next `read_if_changed`."""
        self._seen.pop(name, None)

    def stream(self, name: str, *, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes from start to end.

        Raises:
            TransportError: It is not there, or nobody answers any more.
        """
        while start < end:
            chunk = self._part(name, start, min(start + _CHUNK_BYTES, end))
            if not chunk:
                return
            yield start, chunk
            start += len(chunk)

    def _part(self, name: str, start: int, end: int) -> bytes:
        try:
            content: bytes = self._files.cat_file(f"{self._base}/{name}", start=start, end=end)
        except FileNotFoundError as error:
            raise TransportError("missing", "is not there") from error
        except Exception as error:  # each kind of store raises its own library's errors
            raise TransportError("unreachable", f"does not answer: {error!r}") from error
        return content
