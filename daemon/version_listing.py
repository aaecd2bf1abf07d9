"""What the versions verbs show: the lineage log and the folders, read without the lock."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.config import Config
from teacherd.daemon.entries import Outcome
from teacherd.daemon.errors import StateError, TeacherdError, UsageError
from teacherd.daemon.lineage import Lineage, VersionRecord
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.daemon.reachability import replay_starts
from teacherd.daemon.record_archive_opening import open_archive
from teacherd.daemon.state_directory import PUBLIC
from teacherd.daemon.version_origins import find_origins
from teacherd.models.artifact import ArtifactError, read_manifest, verify_artifact, version_folder


def list_versions(config: Config) -> list[dict[str, Any]]:
    """Return one row for each accepted version, oldest first.

    `is_kept` says whether its weights are on disk, `replay_from` the oldest kept version that has
    the records of all tasks since, `can_replay` is None where the records do not answer.
    """
    entries, lineage, root = read_versions(config)
    starts = _replay_starts(config, entries, root)
    rows = []
    for version, origin in find_origins(entries).items():
        record, logged, plan = origin.record, origin.logged, origin.plan
        rows.append(
            {
                "version": version,
                "sha256": record.sha256,
                "parent": record.parent,
                "task": record.task,
                "instances": plan.num_instances if plan else None,
                "classes": len(record.classes),
                "outer_ratio": _figure(logged, "outer_ratio"),
                "gate": gate_word(logged),
                "written_at": logged.written_at,
                "state": _state(version, lineage, root),
                "is_kept": version_folder(root, version).exists(),
                "can_replay": None if starts is None else starts[version] is not None,
                "replay_from": None if starts is None else starts[version],
            }
        )
    return rows


def show_version(config: Config, number: int) -> dict[str, Any]:
    """Return plan, outcome and manifest of one version.

    Raises:
        UsageError: There is no such version.
        StateError: Its manifest cannot be read.
    """
    entries, lineage, root = read_versions(config)
    require_version(lineage, number)
    shown: dict[str, Any] = {
        "state": _state(number, lineage, root),
        "classes": list(lineage.versions[number].classes),
    }
    origin = find_origins(entries)[number]
    if origin.plan is not None and origin.outcome is not None:
        shown["plan"] = asdict(origin.plan)
        shown["outcome"] = {"at": origin.logged.written_at, **asdict(origin.outcome)}
    folder = version_folder(root, number)
    if folder.exists():
        try:
            shown["manifest"] = asdict(read_manifest(folder))
        except ArtifactError as error:
            raise StateError(folder, str(error)) from error
    return shown


def find_version(config: Config, number: int | None) -> tuple[Path, VersionRecord]:
    """Return folder and log record of a version; of the served one by default.

    Raises:
        UsageError: There is no such version, or it was removed.
    """
    _, lineage, root = read_versions(config)
    if number is None:
        number = lineage.current or 0
    require_version(lineage, number)
    folder = version_folder(root, number)
    if not folder.exists():
        raise UsageError(
            f"version {number} was removed by publication.keep_versions; `teacherd versions list` "
            "shows which are there"
        )
    return folder, lineage.versions[number]


def verify_versions(config: Config, number: int | None) -> list[dict[str, Any]]:
    """Check one version or all: loads, has the checksums of manifest and lineage log.

    Raises:
        UsageError: There is no such version.
    """
    _, lineage, root = read_versions(config)
    if number is not None:
        require_version(lineage, number)
    rows = []
    for version in lineage.versions if number is None else (number,):
        state, reason = _verify(version, lineage, root)
        rows.append({"version": version, "state": state, "reason": reason})
    return rows


def _verify(version: int, lineage: Lineage, root: Path) -> tuple[str, str]:
    folder = version_folder(root, version)
    if not folder.exists():
        if version in lineage.pinned:
            return "bad", f"{folder} is missing, and it is never pruned"
        return "pruned", "removed by publication.keep_versions"
    try:
        manifest = verify_artifact(folder)
    except ArtifactError as error:
        return "bad", str(error)
    if manifest.weights_sha256 != lineage.versions[version].sha256:
        return "bad", "its sha256 is not the lineage log's"
    if manifest.classes != lineage.versions[version].classes:
        return "bad", "its classes are not the lineage log's"
    return "good", ""


def _replay_starts(
    config: Config, entries: list[LoggedEntry], root: Path
) -> dict[int, int | None] | None:
    """Return from where each version can be replayed, None where the records do not answer."""
    try:
        with closing(open_archive(config)) as archive:
            earliest = archive.earliest()
    except (TeacherdError, SourceError, StreamLogError):
        return None
    return replay_starts(
        [logged.entry for logged in entries],
        earliest=earliest,
        is_kept=lambda version: version_folder(root, version).is_dir(),
    )


def read_versions(config: Config) -> tuple[list[LoggedEntry], Lineage, Path]:
    """Return the log's entries, what they say, and where the versions lie.

    Raises:
        UsageError: There is no lineage.
        StateError: The log is damaged.
    """
    directory = Path(config.process.state_directory)
    return *read_lineage(directory), directory / PUBLIC


def gate_word(logged: LoggedEntry) -> str | None:
    """Return what the gate said, and how far the candidate was taken."""
    outcome = logged.entry
    if not isinstance(outcome, Outcome):
        return None
    return outcome.gate if outcome.point == 1 else f"{outcome.gate} at {outcome.point:g}"


def _figure(logged: LoggedEntry, name: str) -> float | None:
    return logged.entry.figures.get(name) if isinstance(logged.entry, Outcome) else None


def require_version(lineage: Lineage, number: int) -> None:
    """See that a version is one of the lineage's.

    Raises:
        UsageError: It is not; the message says which there are.
    """
    if number not in lineage.versions:
        newest = max(lineage.versions, default=None)
        known = "there is none yet" if newest is None else f"versions go from 0 to {newest}"
        raise UsageError(f"there is no version {number}; {known}")


def _state(version: int, lineage: Lineage, root: Path) -> str:
    words = []
    if version == lineage.current:
        words.append("current")
    if version == lineage.head:
        words.append("head")
    if not version_folder(root, version).exists():
        words.append("pruned")
    return ", ".join(words)
