"""What disks do to files: bits flip, ends are lost, an fsync fails."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_REGIONS = 4


@dataclass(frozen=True, slots=True)
class Damage:
    """One fault of one file, by its path below a root."""

    path: str
    kind: Literal["flipped", "truncated"]
    position: int

    def apply(self, root: Path) -> None:
        """Damage the file."""
        file = root / self.path
        data = bytearray(file.read_bytes())
        if self.kind == "truncated":
            data = data[: self.position]
        else:
            data[self.position] ^= 1
        file.write_bytes(data)


def damages(root: Path) -> Iterator[Damage]:
    """Yield each region of every file below a root, flipped and truncated.

    A log is damaged in every line, any other file in as many parts of equal size. Locks and the
    note of which format the directory has are no data.
    """
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        path = file.relative_to(root).as_posix()
        if path in {"lock", "format.json"}:
            continue
        for start, end in _regions(file):
            if end > start:
                yield Damage(path, "flipped", (start + end) // 2)
                yield Damage(path, "truncated", start + (end - start) // 3)


def _regions(file: Path) -> list[tuple[int, int]]:
    data = file.read_bytes()
    if file.suffix == ".log":
        lines = data.splitlines(keepends=True)
        ends = [sum(map(len, lines[: number + 1])) for number in range(len(lines))]
    else:
        ends = [len(data) * (number + 1) // _REGIONS for number in range(_REGIONS)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True, slots=True)
class FailSync:
    """Lets the n-th fsync below a root fail, as a dying disk does; a preparation of a daemon."""

    root: str
    number: int
    error: int = errno.EIO

    def __call__(self) -> None:
        """Begin, in the child."""
        original, left = os.fsync, [self.number]

        def fsync(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self.root):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(self.error, os.strerror(self.error))
            original(descriptor)

        os.fsync = fsync  # type: ignore[assignment] # the real one takes anything with a fileno
