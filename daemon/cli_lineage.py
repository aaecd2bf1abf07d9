"""Verbs about a whole lineage: backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    print_facts,
    print_json,
    progress_bar,
    read_config,
)

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
