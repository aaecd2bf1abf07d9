"""An object store in memory, by fsspec, that can be told to fail: faulty://bucket/..."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FaultyStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Like the real thing it has no rename and no folders; every operation may fail."""

    protocol = "faulty"
    store: dict[str, Any] = {}  # noqa: RUF012 (one for all, as a store outlives its clients)
    pseudo_dirs = [""]  # noqa: RUF012 (as above)
    fault: Callable[[str, str], None] | None = None
    """Called with each operation and path; what it raises is the operation's failure."""
    written: list[str] = []  # noqa: RUF012 (as above)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("faulty://").strip("/")

    def _reach(self, operation: str, path: str) -> None:
        if FaultyStore.fault is not None:
            FaultyStore.fault(operation, path)

    def pipe_file(self, path: str, value: bytes, **arguments: Any) -> None:  # noqa: ANN401 (fsspec's own)
        """Put an object."""
        self._reach("put", path)
        super().pipe_file(path, value, **arguments)
        FaultyStore.written.append(path)

    def put_file(self, lpath: str, rpath: str, **arguments: Any) -> None:  # noqa: ANN401 (as above)
        """Put a file."""
        self._reach("put", rpath)
        super().pipe_file(rpath, Path(lpath).read_bytes(), **arguments)
        FaultyStore.written.append(rpath)

    def cat_file(self, path: str, **arguments: Any) -> bytes:  # noqa: ANN401 (as above)
        """Get an object."""
        self._reach("get", path)
        content: bytes = super().cat_file(path, **arguments)
        return content

    def ls(self, path: str, detail: bool = True, **arguments: Any) -> Any:  # noqa: ANN401, FBT002 (as above)
        """List."""
        self._reach("list", path)
        return super().ls(path, detail=detail, **arguments)

    def mv(self, *_: object, **__: object) -> None:
        """Refuse: an object store cannot rename."""
        raise AssertionError("an object store has no rename")

    def makedirs(self, *_: object, **__: object) -> None:
        """Refuse: that would make a bucket."""
        raise AssertionError("an object store has no folders")


def new_bucket() -> str:
    """Return the URL of an empty place in a store without faults."""
    fsspec.register_implementation("faulty", FaultyStore, clobber=True)
    FaultyStore.fault = None
    FaultyStore.written = []
    return f"faulty://{uuid.uuid4().hex}/teachers"
