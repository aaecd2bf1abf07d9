"""What a power cut may leave behind: unsynced content and names are lost in any combination.

`RecordSyncs` watches, inside the daemon's own process, which content and which names were synced.
After the process was killed, `PowerCut` makes of that, and of what lies on the disk, the states
that a disk may be in after a power cut: everything synced is there; of the rest, each write and
each change of a name may have reached the disk, in part, or not. A rename is one change. SQLite's
files are not watched: with synchronous=FULL they are SQLite's business.
"""

import itertools
import json
import os
import random
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from teacherd.daemon.checkpoint import CheckpointStore
from teacherd.daemon.durable import failpoints
from teacherd.daemon.entries import Outcome
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage_log import LineageLog
from teacherd.models.artifact import ArtifactError, load_artifact, version_folder
from teacherd.models.current_pointer import read_current, served_folder

_Listing = Mapping[str, int]
_FOLDERS, _FILES, _PINNED, _ACKNOWLEDGED = "folders", "files", "pinned", "acknowledged"


@dataclass(frozen=True, slots=True)
class RecordSyncs:
    """Notes every fsync below a root; a preparation of a forked daemon.

    Args:
        root: Watched; what is there when it begins counts as synced.
        store: Where the notes go: another folder of the same file system.
        log: The lineage log, whose entries are promised once they are appended.
        forget: Syncs of paths that contain this do not count, as if the code had left them out.
    """

    root: str
    store: str
    log: str
    forget: str | None = None

    def __call__(self) -> None:
        """Begin, in the child."""
        for name in (_FOLDERS, _FILES, _PINNED):
            (Path(self.store) / name).mkdir(parents=True, exist_ok=True)
        open_folders: dict[int, int] = {}
        for folder, _, names in os.walk(self.root):
            self._note(Path(folder), open_folders)
            for path in _plain_files(folder, names):
                self._note(path, open_folders)

        def fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_relative_to(self.root) and not (self.forget and self.forget in str(path)):
                self._note(path, open_folders)

        os.fsync = fsync  # type: ignore[assignment] # the real one takes anything with a fileno
        failpoints.watch(self._acknowledge)

    def _note(self, path: Path, open_folders: dict[int, int]) -> None:
        facts = path.stat()
        store, number = Path(self.store), facts.st_ino
        if stat.S_ISDIR(facts.st_mode):
            # Held open, and files by a second name: so that no number is given out twice.
            if number not in open_folders:
                open_folders[number] = os.open(path, os.O_PATH)
            _write(store / _FOLDERS / str(number), json.dumps(_listing(path)).encode())
        else:
            if not (store / _PINNED / str(number)).exists():
                os.link(path, store / _PINNED / str(number))
            _write(store / _FILES / str(number), path.read_bytes())

    def _acknowledge(self, failpoint: str) -> None:
        if failpoint.endswith(".appended"):
            _write(Path(self.store) / _ACKNOWLEDGED, Path(self.log).read_bytes())


class PowerCut:
    """The states that a disk may be in, if the power had failed when the process was killed."""

    def __init__(self, recorded: RecordSyncs) -> None:
        store, root = Path(recorded.store), Path(recorded.root)
        self._root = root.stat().st_ino
        self._synced_folders: dict[int, _Listing] = {
            int(path.name): json.loads(path.read_bytes()) for path in (store / _FOLDERS).iterdir()
        }
        self._synced_files = {
            int(path.name): path.read_bytes() for path in (store / _FILES).iterdir()
        }
        self._folders: dict[int, _Listing] = {}
        self._files = {int(path.name): path.read_bytes() for path in (store / _PINNED).iterdir()}
        for folder, _, names in os.walk(root):
            path = Path(folder)
            self._folders[path.stat().st_ino] = _listing(path)
            for file in _plain_files(folder, names):
                self._files[file.stat().st_ino] = file.read_bytes()
        acknowledged = store / _ACKNOWLEDGED
        self.promised_log = acknowledged.read_bytes() if acknowledged.exists() else b""
        """What the lineage log must begin with in every state."""

    def states(self, directory: Path, *, at_most: int, seed: int) -> Iterator[Path]:
        """Make one state after the other below a directory; all there are, or a sample.

        The first has lost everything that was not synced, the second nothing.
        """
        directory.mkdir()
        names = {number: self._name_choices(number) for number in self._all_folders()}
        contents = {number: self._content_choices(number) for number in self._all_files()}
        keys = [
            ("names", number, at) for number, groups in names.items() for at in range(len(groups))
        ]
        widths = [2] * len(keys)
        for number, choices in contents.items():
            if len(choices) > 1:
                keys.append(("content", number, 0))
                widths.append(len(choices))
        for count, picks in enumerate(_combinations(widths, at_most=at_most, seed=seed)):
            picked = dict(zip(keys, picks, strict=True))
            target = directory / f"{count:04d}"
            self._make(self._root, target, picked, names, contents)
            yield target

    def _all_folders(self) -> set[int]:
        return set(self._folders) | set(self._synced_folders)

    def _all_files(self) -> set[int]:
        return set(self._files) | set(self._synced_files)

    def _name_choices(self, folder: int) -> list[dict[str, tuple[int | None, int | None]]]:
        """Return the changes of names, (synced, now), that happen together or not at all."""
        synced, now = self._synced_folders.get(folder, {}), self._folders.get(folder, {})
        groups: list[tuple[set[int], dict[str, tuple[int | None, int | None]]]] = []
        for name in sorted(synced.keys() | now.keys()):
            before, after = synced.get(name), now.get(name)
            if before == after:
                continue
            # The number that comes or goes: a rename takes it from one name to another.
            moved = {each for each in (after or before,) if each is not None}
            joined = [group for group in groups if group[0] & moved]
            groups = [group for group in groups if not group[0] & moved]
            changes = {name: (before, after)}
            for numbers, others in joined:
                moved |= numbers
                changes |= others
            groups.append((moved, changes))
        return [changes for _, changes in groups]

    def _content_choices(self, number: int) -> list[bytes]:
        """Return what a file may hold: as synced, as written, torn, grown and empty, holed."""
        synced = self._synced_files.get(number, b"")
        now = self._files.get(number, synced)
        if now == synced:
            return [synced]
        half = (len(synced) + len(now)) // 2
        grown = synced[: len(now)].ljust(len(now), b"\0")
        return [synced, now, now[:half], grown, grown[:half] + now[half:]]

    def _make(
        self,
        folder: int,
        target: Path,
        picked: Mapping[tuple[str, int, int], int],
        names: Mapping[int, list[dict[str, tuple[int | None, int | None]]]],
        contents: Mapping[int, list[bytes]],
    ) -> None:
        target.mkdir()
        listing: dict[str, int | None] = dict(self._synced_folders.get(folder, {}))
        for at, changes in enumerate(names[folder]):
            if picked["names", folder, at] == 1:
                listing |= {name: after for name, (_, after) in changes.items()}
        for name, number in listing.items():
            if number is None:
                continue
            if number in names:
                self._make(number, target / name, picked, names, contents)
            else:
                choice = picked.get(("content", number, 0), 0)
                (target / name).write_bytes(contents[number][choice])


def _combinations(widths: list[int], *, at_most: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Yield picks: all first choices, all second ones, then every other or a sample."""
    first, second = (0,) * len(widths), (1,) * len(widths)
    yield first
    if not widths:
        return
    yield second
    total = 1
    for width in widths:
        total *= width
    if total <= at_most:
        yield from (
            picks
            for picks in itertools.product(*map(range, widths))
            if picks not in {first, second}
        )
        return
    rng = random.Random(seed)
    seen = {first, second}
    while len(seen) < at_most:
        picks = tuple(rng.randrange(width) for width in widths)
        if picks not in seen:
            seen.add(picks)
            yield picks


def _listing(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder) if not _is_socket(entry)}


def _is_socket(entry: os.DirEntry[str]) -> bool:
    """Tell a socket, which no power cut leaves anything of that matters."""
    return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)


def _plain_files(folder: str, names: list[str]) -> list[Path]:
    return [path for path in (Path(folder) / name for name in names) if path.is_file()]


def _write(path: Path, data: bytes) -> None:
    """Replace a note at once: the process may be killed at any moment."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(data)
    draft.replace(path)


def broken_promises(disk: Path, promised_log: bytes) -> list[str]:
    """Return what a state of the disk lacks, or holds by halves under a name that is read."""
    state, broken = disk / "state", []
    log = state / "lineage.log"
    if not (log.read_bytes() if log.exists() else b"").startswith(promised_log):
        broken.append("an entry that had taken effect is gone")
    if not log.exists():
        return broken
    checkpoints = state / "checkpoints"
    for folder in sorted(checkpoints.glob("[0-9]*")):
        try:
            CheckpointStore(checkpoints, keep=3)._load(folder)
        except StateError as error:
            broken.append(str(error))
    shutil.copy(log, disk / "copy.log")
    try:
        copy = LineageLog(disk / "copy.log", now=lambda: "")
        copy.close()
        entries = copy.take_entries()
    except StateError as error:
        return [*broken, str(error)]
    accepted = [each.entry.version for each in entries if isinstance(each.entry, Outcome)]
    try:
        for version in [0, *accepted]:
            if entries and version is not None:
                load_artifact(version_folder(state / "public", version))
        if (state / "public" / "current").exists():
            load_artifact(served_folder(state / "public", read_current(state / "public")))
    except ArtifactError as error:
        broken.append(str(error))
    return broken


def copy_stream(source: Path, target: Path) -> None:
    """Copy a stream log that nobody has open."""
    for suffix in ("", "-wal", "-shm"):
        if Path(f"{source}{suffix}").exists():
            shutil.copy(f"{source}{suffix}", f"{target}{suffix}")
