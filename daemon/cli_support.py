"""What the verbs share: options, configuration, output for people and for programs."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from teacherd.daemon.config import Config

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The YAML file; see config.yaml for every key.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, above file and environment; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEFAULT_CONFIG = Path("config.yaml")


def read_config(path: Path, assignments: Sequence[str] | None) -> "Config":
    """Resolve the configuration as every verb does.

    Raises:
        ConfigurationError: Carries every problem found.
    """
    from teacherd.daemon.config import load_config
    from teacherd.daemon.config_parsing import read_environment

    return load_config(path, environment=read_environment(), assignments=assignments or ())


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows for a person."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Off a terminal rich would cut cells at 80 columns; a pipe wants them whole.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)


def say(message: str) -> None:
    """Tell a person something beside the result, on stderr."""
    sys.stderr.write(f"{message}\n")


class Bar:
    """A progress bar on a terminal, a line on stderr every tenth elsewhere."""

    def __init__(self, progress: Progress | None, title: str, total: int) -> None:
        self._progress = progress
        self._title = title
        self._total = total
        self._tenth = 0
        self._task = progress.add_task(title, total=total) if progress else None

    def update(self, done: int, total: int | None = None) -> None:
        """Show that `done` of the total is done."""
        if total is not None:
            self._total = total
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=self._total)
            return
        tenth = 10 * done // max(self._total, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            say(f"{self._title}: {done}/{self._total}")


@contextmanager
def progress_bar(title: str, total: int = 0) -> Iterator[Bar]:
    """Show the progress of long work."""
    if not sys.stderr.isatty():
        yield Bar(None, title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress, title, total)
