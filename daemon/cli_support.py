"""What the verbs share: options, configuration, output for people and for programs."""

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from teacherd.daemon.errors import UsageError
from teacherd.daemon.wording import printable, word

if TYPE_CHECKING:
    from teacherd.daemon.config import Config

CONFIG_VARIABLE = "TEACHERD_CONFIG"
"""Names the file for every verb where none is named, as in the container image."""
ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar=CONFIG_VARIABLE,
        help="The YAML file; see config.yaml for every key.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, above file and environment; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEFAULT_CONFIG = Path("config.yaml")
_PIPE_COLUMNS = 100_000  # longer than any line: a pipe wants them whole


def read_config(
    path: Path, assignments: Sequence[str] | None, *, may_be_missing: bool = False
) -> "Config":
    """Resolve the configuration as every verb does.

    Args:
        path: The file.
        assignments: Flags of the form section.key=value.
        may_be_missing: Whether the command line says all that the verb must know, so that only a
            file that it names has to be there.

    Raises:
        ConfigurationError: Carries every problem found.
    """
    from teacherd.daemon.config import load_config
    from teacherd.daemon.config_parsing import read_environment

    unnamed = (DEFAULT_CONFIG, Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG)))
    is_left_out = may_be_missing and path in unnamed and not path.exists()
    return load_config(
        None if is_left_out else path,
        environment=read_environment(),
        assignments=assignments or (),
    )


def end_with(code: int) -> NoReturn:
    """End the process with a code, at once; all that it owned must be closed.

    An interpreter that ends in order looks through all objects for cycles: a second of work with
    torch, beyond every deadline, and many seconds on a machine that is busy. Where it is kept from
    that, torch's compiler writes a page about what it still holds.
    """
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):  # whoever read them has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, if_empty: str = "none"
) -> None:
    """Print rows for a person; without any, a word instead of an empty table."""
    if not rows:
        typer.echo(f"{title}: {if_empty}")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # a checksum cut short is of no use
    for row in rows:
        table.add_row(*(Text(word(cell)) for cell in row))
    _print_titled(title, table)


def print_facts(title: str, facts: Sequence[tuple[str, object]]) -> None:
    """Print names and values for a person; those that have no value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        text = word(value, name=name)
        if text:
            table.add_row(Text(printable(name)), Text(text))
    _print_titled(title, table)


def print_rendered(rendered: RenderableType) -> None:
    """Print what rich renders; off a terminal whole lines, however long, without padding."""
    if sys.stdout.isatty():
        Console(highlight=False).print(rendered)
        return
    console = Console(file=io.StringIO(), width=_PIPE_COLUMNS, highlight=False)
    with console.capture() as capture:
        console.print(rendered)
    for line in capture.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def require_terminal(option: str, *, as_json: bool) -> Console:
    """Return the terminal that a live picture is drawn on.

    Raises:
        UsageError: The output goes elsewhere: escape sequences in a file help nobody.
    """
    if as_json or not sys.stdout.isatty():
        raise UsageError(f"{option}: needs a terminal; without it the answer is printed once")
    return Console(highlight=False)


def _print_titled(title: str, table: Table) -> None:
    print_rendered(Group(Text(printable(title), style="bold"), table))


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
