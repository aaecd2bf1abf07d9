"""Prepares a replay: from where to where, with which device, records and directories."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log_file import StreamLogError
from teacherd.consumers.task_buffer import TaskBuffer
from teacherd.daemon.base_holdout import BaseHoldout, load_base_holdout
from teacherd.daemon.config import Config
from teacherd.daemon.device import prepare_device
from teacherd.daemon.draining import Draining
from teacherd.daemon.durable import write_folder
from teacherd.daemon.errors import (
    ConfigurationError,
    TeacherdError,
    UnavailableError,
    UsageError,
)
from teacherd.daemon.following import Following
from teacherd.daemon.interruption import InterruptibleArchive, Interruption
from teacherd.daemon.joining import LostRankError, device_of_rank, rank_problems
from teacherd.daemon.leadership import Leadership
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.lineage_reading import read_lineage
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.publication import PublicationConfig, VersionStore
from teacherd.daemon.reachability import replay_starts
from teacherd.daemon.record_archive_opening import open_archive
from teacherd.daemon.replay import Replay
from teacherd.daemon.replay_report import ReplayReport
from teacherd.daemon.state_directory import PUBLIC
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.stop_rule import TakenIn
from teacherd.models.artifact import version_folder
from teacherd.models.ranks import ALONE, Ranks


def replay_versions(
    config: Config,
    *,
    target: int | None,
    start: int | None,
    out: Path | None,
    on_task: Callable[[int, int], None],
    ranks: Ranks = ALONE,
) -> ReplayReport:
    """Make versions again beside a running daemon, and hold them against the log.

    Args:
        config: Says where lineage and records are.
        target: The last version to make; by default the log is followed to its end.
        start: The version to begin with; by default the oldest that all records since are there of.
        out: Where to put the target's folder, as it was made again.
        on_task: Told how many of how many tasks are done.
        ranks: That learn again together; this one is the first, the others `follow_replay`.

    Raises:
        UsageError: There are no such versions, or the place for the target is taken.
        UnavailableError: Records that are needed are gone, changed, or do not answer.
        StateError: Log or versions are damaged.
    """
    with _leading(config, ranks) as leadership:
        return _replay(
            config, target=target, start=start, out=out, on_task=on_task, leadership=leadership
        )


def _replay(
    config: Config,
    *,
    target: int | None,
    start: int | None,
    out: Path | None,
    on_task: Callable[[int, int], None],
    leadership: Leadership,
) -> ReplayReport:
    directory = Path(config.process.state_directory)
    entries, lineage = read_lineage(directory)
    last = lineage.next_version - 1 if target is None else target
    _require_versions(lineage, target=last, start=start)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already; name a folder that does not")
    root = directory / PUBLIC
    with (
        closing(_open_archive(config, leadership)) as archive,
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
                device=_prepare_device(config),
                leadership=leadership,
                on_task=on_task,
            ).run()
        except (SourceError, StreamLogError) as error:
            raise UnavailableError(str(error)) from error
        if out is not None:
            _keep(version_folder(made.root, last), out)
    return report


def follow_replay(config: Config, ranks: Ranks) -> None:
    """Learn with rank 0 whatever that learns again, until it has done.

    Raises:
        LostRankError: Another rank is gone.
    """
    device = _prepare_device(config)
    with closing(TaskBuffer(config.tasks, now=time.monotonic)) as buffer, rank_problems():
        Following(
            ranks,
            device=device,
            # Records are rank 0's to read.
            buffer=buffer,
            begin_reading=lambda _: None,
            draining=Draining(),
            wants_stop=lambda: False,
            taken_in=TakenIn(),
            board=StatusBoard(monotonic=time.monotonic),
            metrics=Metrics(),
        ).run()


@contextmanager
def _leading(config: Config, ranks: Ranks) -> Iterator[Leadership]:
    """Give what the other ranks follow; let them end in order, whatever the replay comes to."""
    leadership = Leadership(
        ranks,
        draining=Draining(),
        stop=threading.Event(),
        stop_rule=config.intake.build_stop_rule(),
        metrics=Metrics(),
        board=StatusBoard(monotonic=time.monotonic),
        monotonic=time.monotonic,
    )
    try:
        with rank_problems():
            yield leadership
    except LostRankError:
        raise
    except TeacherdError:
        leadership.dismiss(is_told=False, has_failed=False)
        raise
    leadership.dismiss(is_told=False, has_failed=False)


def _open_archive(config: Config, leadership: Leadership) -> InterruptibleArchive:
    """Open the records, which may take long to read: the other ranks hear of it."""
    interruption = Interruption(threading.Event(), on_progress=leadership.tick)
    return InterruptibleArchive(open_archive(config), interruption)


def _prepare_device(config: Config) -> torch.device:
    name = device_of_rank(config.process.device, os.environ)
    return prepare_device(name, config.process.num_threads)


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
