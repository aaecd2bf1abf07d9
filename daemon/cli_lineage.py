"""Verbs about a whole lineage: backup, restore, replay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    end_with,
    print_facts,
    print_json,
    print_table,
    progress_bar,
    read_config,
    say,
)
from teacherd.daemon.errors import ExitCode
from teacherd.daemon.wording import word

if TYPE_CHECKING:
    from teacherd.daemon.config import Config
    from teacherd.daemon.replay_report import ReplayReport

# Imports of torch stand inside the verbs: see cli_service.


def backup(
    out: Annotated[Path, typer.Argument(help="Folder to be made; must not exist.")],
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    with_stream_log: Annotated[
        bool, typer.Option("--with-stream-log", help="Copy the records and dead letters, too.")
    ] = False,
    all_versions: Annotated[
        bool,
        typer.Option("--all-versions", help="Not only those that learning goes on from."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the lineage, whole and verified; a daemon may be running."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from teacherd.daemon.backup import make_backup

    settings = read_config(config, assignments)
    with progress_bar("versions") as bar:
        content = make_backup(
            Path(settings.process.state_directory),
            out,
            stream_log=settings.stream_log if with_stream_log else None,
            all_versions=all_versions,
            now=datetime.now(UTC).isoformat(timespec="milliseconds"),
            on_progress=bar.update,
        )
    report = {**asdict(content), "files": len(content.files)}
    if as_json:
        print_json(report)
    else:
        print_facts(f"backed up into {out}", list(report.items()))


def restore(
    backup: Annotated[Path, typer.Argument(help="Folder that `teacherd backup` made.")],
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty state directory; then start the daemon as ever."""
    from dataclasses import asdict

    from teacherd.daemon.restoration import restore_backup

    settings = read_config(config, assignments)
    directory = Path(settings.process.state_directory)
    content, is_put_back = restore_backup(backup, directory, Path(settings.stream_log.path))
    report = {
        **asdict(content),
        "files": len(content.files),
        "stream_log": "restored" if is_put_back else "left as it is",
    }
    if as_json:
        print_json(report)
    else:
        print_facts(f"restored into {directory}", list(report.items()))


def replay(
    to: Annotated[
        int | None,
        typer.Option("--to", help="The last version to make again; by default to the end."),
    ] = None,
    start: Annotated[
        int | None,
        typer.Option("--from", help="Begin with this one; by default the oldest one possible."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="Only say which offsets made the version.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep the version's folder, as it was made again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make versions again from their records; exits 0 if every one is the same, bit for bit.

    1: something differs though nothing that bits depend on does. 3: bits differ, and so does what
    they depend on. 69: records are gone. 74: log or versions are damaged. Nothing is changed; a
    daemon may be running. What several ranks have learned: by torchrun, with as many.
    """
    settings = read_config(config, assignments)
    if explain:
        _explain(settings, to, start, as_json=as_json)
        return
    import os
    from dataclasses import replace

    from teacherd.daemon.joining import join, rank_of
    from teacherd.daemon.logs import configure_logs
    from teacherd.daemon.replaying import follow_replay, replay_versions

    # What it says beside the result goes to stderr, and of that only what is wrong.
    configure_logs(replace(settings.logging, level="warning"), rank=rank_of(os.environ))
    ranks = join(settings, os.environ)
    if ranks.rank:
        follow_replay(settings, ranks)
        end_with(ExitCode.OK)
    with progress_bar("tasks") as bar:
        report = replay_versions(
            settings, target=to, start=start, out=out, on_task=bar.update, ranks=ranks
        )
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    code = _REPLAY_CODES[report.result]
    if not ranks.is_alone:
        # What torch still holds of the others ends an interpreter that ends in order by SIGABRT.
        end_with(code)
    raise typer.Exit(int(code))


_REPLAY_CODES = {
    "equal": ExitCode.OK,
    "unequal": ExitCode.GENERIC,
    "other_runtime": ExitCode.OTHER_RUNTIME,
}


def _explain(settings: "Config", to: int | None, start: int | None, *, as_json: bool) -> None:
    from teacherd.daemon.explanation import explain_version
    from teacherd.daemon.lineage_reading import read_lineage

    entries, lineage = read_lineage(Path(settings.process.state_directory))
    version = max(lineage.versions, default=0) if to is None else to
    rows = explain_version([logged.entry for logged in entries], version, start=start or 0)
    if as_json:
        print_json(rows)
        return
    columns = ["version", "parent", "task", "cause", "topic", "partition", "start", "end"]
    columns += ["records", "rejected", "deferred_by"]
    print_table(
        f"version {version}: offsets from start to before end",
        columns,
        [[row.get(column) for column in columns] for row in rows],
    )


def _print_report(report: "ReplayReport") -> None:
    columns = ["version", "task", "result", "largest_difference", "agreement", "sha256"]
    rows = [
        [each.version, each.task, each.result, each.largest_difference, each.agreement, each.sha256]
        for each in report.versions
    ]
    print_table(f"replay from version {report.start} to {report.target}", columns, rows)
    for verdict in report.verdicts:
        for name, (before, now) in verdict.differences.items():
            say(f"task {verdict.task}: {name} was {word(before)}, is {word(now)}")
    for name, (before, now) in report.differing_facts.items():
        say(f"{name} was {before}, is {now}")
    if "ranks" in report.differing_facts:
        before, _ = report.differing_facts["ranks"]
        say(
            "so many processes add up in another order, which rounds otherwise; for the same bits: "
            + (
                "teacherd replay"
                if before == "1"
                else f"torchrun --nproc-per-node {before} -m teacherd.daemon replay"
            )
        )
    if report.not_judged:
        say(f"not judged again, because their records are gone: tasks {word(report.not_judged)}")
    say(f"{len(report.versions)} versions, {report.num_verdicts} decisions: {report.result}")
