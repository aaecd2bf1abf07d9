"""Prepares a replay: from where to where, with which device, records and directories."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.daemon.base_holdout import BaseHoldout, load_base_holdout
from teacherd.daemon.config import Config
from teacherd.daemon.device import prepare_device
from teacherd.daemon.durable import write_folder
from teacherd.daemon.errors import ConfigurationError, UnavailableError, UsageError
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.daemon.publication import PublicationConfig, VersionStore
from teacherd.daemon.reachability import replay_starts
from teacherd.daemon.record_archive_opening import open_archive
from teacherd.daemon.replay import Replay
from teacherd.daemon.replay_report import ReplayReport
from teacherd.daemon.state_directory import PUBLIC
from teacherd.models.artifact import version_folder


def replay_versions(
    config: Config,
    *,
    target: int | None,
    start: int | None,
    out: Path | None,
    on_task: Callable[[int, int], None],
) -> ReplayReport:
    """Make versions again beside a running daemon, and hold them against the log.

    Args:
        config: Says where lineage and records are.
        target: The last version to make; by default the log is followed to its end.
        start: The version to begin with; by default the oldest that all records since are there of.
        out: Where to put the target's folder, as it was made again.
        on_task: Told how many of how many tasks are done.

    Raises:
        UsageError: There are no such versions, or the place for the target is taken.
        UnavailableError: Records that are needed are gone, changed, or do not answer.
        StateError: Log or versions are damaged.
    """
    directory = Path(config.process.state_directory)
    entries, lineage = read_lineage(directory)
    last = lineage.next_version - 1 if target is None else target
    _require_versions(lineage, target=last, start=start)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already; name a folder that does not")
    root = directory / PUBLIC
    with (
        closing(open_archive(config)) as archive,
        tempfile.TemporaryDirectory(prefix="teacherd-replay-") as scratch,
    ):
        try:
            if start is None:
                starts = replay_starts(
                    [logged.entry for logged in entries],
                    earliest=archive.earliest(),
                    is_kept=lambda version: version_folder(root, version).is_dir(),
                )
                start = _require_start(starts, last)
            made = VersionStore(PublicationConfig(), Path(scratch))
            kept = VersionStore(PublicationConfig(), root)
            report = Replay(
                entries,
                start=start,
                target=target,
                kept=kept,
                made=made,
                archive=archive,
                base_holdout=_find_base_holdout(config, kept, lineage),
                device=prepare_device(config.process.device, config.process.num_threads),
                on_task=on_task,
            ).run()
        except (SourceError, StreamLogError) as error:
            raise UnavailableError(str(error)) from error
        if out is not None:
            _keep(version_folder(made.root, last), out)
    return report


def _require_versions(lineage: Lineage, *, target: int, start: int | None) -> None:
    for name, version in (("--to", target), ("--from", start)):
        if version is not None and version not in lineage.versions:
            raise UsageError(
                f"{name}: there is no version {version}; versions go from 0 to "
                f"{max(lineage.versions, default=0)}"
            )
    if target == 0:
        raise UsageError(
            "--to: version 0 is what a lineage starts from; there is nothing to replay"
        )
    if start is not None and start >= target:
        raise UsageError(f"--from: {start} is not before version {target}")


def _find_base_holdout(config: Config, kept: VersionStore, lineage: Lineage) -> BaseHoldout | None:
    """Return the base holdout as configured today, None where there is none that fits."""
    head = lineage.versions[lineage.head]
    design = kept.load(head.version, head.sha256, head.manifest_sha256).manifest.design
    try:
        return load_base_holdout(
            config.gate,
            input_shape=design.architecture.input_shape,
            classes=lineage.first_classes,
        )
    except ConfigurationError:
        return None  # what was judged with it is then not judged again


def _require_start(starts: dict[int, int | None], target: int) -> int:
    start = starts[target]
    if start is None:
        reachable = [version for version, start in starts.items() if start is not None]
        others = f"; those that can: {_span(reachable)}" if reachable else ""
        raise UnavailableError(
            f"version {target} cannot be replayed: the records of its task, or of one before it "
            f"back to the last version that is kept, are gone{others}"
        )
    return start


def _span(versions: list[int]) -> str:
    return f"{versions[0]} to {versions[-1]}" if len(versions) > 1 else str(versions[0])


def _keep(folder: Path, out: Path) -> None:
    def fill(target: Path) -> None:
        for file in folder.iterdir():
            shutil.copy(file, target / file.name)

    write_folder(out, fill, name="replayed")
