"""`teacherd status --watch`: what the page at `/` shows, in a terminal, until Ctrl+C."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.wording import printable, share, span, word

_PERIOD_SECONDS = 2.0
_NUM_TASKS = 8
_NUM_SETS = 6
_STYLES = {"critical": "bold red", "warning": "yellow", "note": "cyan"}
_SO = {True: ("yes", "green"), False: ("no", "bold red"), None: ("unknown", "dim")}

Answer = Mapping[str, Any]


def watch(
    fetch: Callable[[], tuple[Answer, Answer]],
    *,
    console: Console,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show the newest answers of /status and /history until interrupted.

    Args:
        fetch: Asks the daemon for both; while it does not answer, the last ones stay, marked.
        console: Of a terminal.
        sleep: Called between two looks; an interrupt in it ends the watching.
    """
    shown: RenderableType = Text("Asking the daemon.")
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                try:
                    shown = render(*fetch())
                    live.update(shown, refresh=True)
                except UnavailableError as error:
                    live.update(Group(Text(str(error), style="bold red"), shown), refresh=True)
                sleep(_PERIOD_SECONDS)
        except KeyboardInterrupt:
            return


def render(status: Answer, history: Answer) -> Group:
    """Return everything as one picture, the worst on top."""
    state = str(status.get("state"))
    title = Text.assemble(
        ("teacherd ", "bold"), (printable(state), "green" if state == "ready" else "yellow")
    )
    parts: list[RenderableType] = [title, Text(printable(status.get("headline", ""))), Text()]
    return Group(
        *parts,
        *_answers(status.get("answers", ())),
        Text(),
        *_problems(status.get("problems", ())),
        Text(),
        _facts(status),
        *_accuracies(status),
        *_drift(status.get("drift", {})),
        Text(),
        _tasks(status, history),
    )


def _answers(answers: Sequence[Mapping[str, Any]]) -> list[Text]:
    return [
        Text.assemble(
            (f"{each['asks']}: ", "bold"),
            _SO[each["is_so"]],
            f"  {printable(each['says'])}",
        )
        for each in answers
    ]


def _problems(problems: Sequence[Mapping[str, str]]) -> list[Text]:
    lines = []
    for each in problems:
        style = _STYLES[each["level"]]
        lines.append(Text(f"{each['level'].upper()}: {printable(each['says'])}", style=style))
        if each["remedy"]:
            lines.append(Text(f"  {printable(each['remedy'])}", style="dim"))
    return lines or [Text("Nothing is wrong.", style="green")]


def _facts(status: Answer) -> Table:
    ages, lineage, task = (status.get(name, {}) for name in ("ages", "lineage", "task"))
    unread = sum(status.get("intake", {}).get("lag", {}).values())
    buffered = status.get("buffer", {}).get("records", 0)
    facts = Table.grid(padding=(0, 3))
    facts.add_row("served version", str(status.get("teacher", {}).get("version", "-")))
    facts.add_row("freshness", _span(ages.get("freshness_seconds")))
    lag = _span(ages.get("lag_seconds"))
    facts.add_row("lag", lag, f"{unread:,} unread, {buffered:,} buffered")
    facts.add_row(
        "learned", f"{lineage.get('instances_learned', 0):,}", f"in {lineage.get('tasks', 0)} tasks"
    )
    if task.get("number") is not None:
        facts.add_row(
            "task", f"no. {task['number']}", f"step {task['steps_done']} of {task['steps']}"
        )
    classes = status.get("classes", {})
    if classes.get("later") or classes.get("deferred_records"):
        later = len(classes.get("later", ()))
        facts.add_row(
            "classes", f"{classes['served']:,}, {later:,} of them later", _waiting(classes)
        )
    headroom = status.get("load", {}).get("headroom_ratio")
    if headroom is not None:
        facts.add_row("headroom", f"{headroom:.1f} times", "learning rate to arrival rate")
    return facts


def _waiting(classes: Mapping[str, Any]) -> str:
    records, labels = classes.get("deferred_records", 0), classes.get("deferred_labels", 0)
    return f"{records:,} records with {labels:,} labels wait" if records else ""


def _accuracies(status: Answer) -> list[RenderableType]:
    learning = status.get("learning", {})
    if not learning.get("teacher_accuracy"):
        return []  # no evaluation.sets: a head of a table with nothing below looks like a fault
    table = _table("accuracy on", "teacher", "student", "base", "forgetting")
    for name in list(learning["teacher_accuracy"])[:_NUM_SETS]:
        lost = learning.get("forgetting", {}).get(name)
        table.add_row(
            _plain(name),
            *(
                _share(learning.get(f"{model}_accuracy", {}).get(name))
                for model in ("teacher", "student", "base")
            ),
            "-" if lost is None else f"{100 * lost:+.1f} points",
        )
    return [Text(), table]


def _drift(detectors: Mapping[str, Mapping[str, Any]]) -> list[RenderableType]:
    if not detectors:
        return []
    table = _table("drift", "statistic", "threshold", "last alarm")
    for name, each in detectors.items():
        values = (_number(each.get(key)) for key in ("score", "threshold"))
        alarm = word(each.get("last_alarm_ms"), name="last_alarm_ms") or "-"
        table.add_row(_plain(name), *values, alarm, style="yellow" if each.get("alarmed") else None)
    return [Text(), table]


def _tasks(status: Answer, history: Answer) -> Table:
    sets = list(status.get("learning", {}).get("base_accuracy", {}))[:_NUM_SETS]
    table = _table("task", "closed", "instances", "verdict", "version", *map(_plain, sets))
    # A task is a line: folded, the reasons of a few tasks push all else off the screen.
    table.add_column("reasons", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for row in reversed(history.get("tasks", ())[-_NUM_TASKS:]):
        closed = datetime.fromisoformat(row["at"]).astimezone(UTC)
        table.add_row(
            str(row["task"]),
            f"{closed:%H:%M:%S}",
            _number(row["instances"]),
            Text(row["result"], style="green" if row["result"] == "accepted" else "red"),
            "-" if row["version"] is None else f"v{row['version']}",
            *(_share(row["teacher"].get(name)) for name in sets),
            _plain("; ".join(row["reasons"])),
        )
    return table


def _plain(text: str) -> Text:
    """Return what others named: rich would take brackets in it for markup."""
    return Text(printable(text))


def _table(first: str, *others: RenderableType) -> Table:
    table = Table(first, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else share(ratio)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
