"""The demo's live view: figures that move on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from teacherd.daemon.demo_report import Accuracies, Sample
from teacherd.daemon.demo_stream import NUM_TASKS, DemoStream

_LINE_SECONDS = 5.0


class DemoScreen:
    """Shows samples from entering to leaving it.

    Args:
        stream: What is streamed.
        drift: In words, what the second half of it is.
    """

    def __init__(self, stream: DemoStream, *, drift: str) -> None:
        self._stream = stream
        self._drift = drift
        self._live = (
            Live(console=Console(stderr=True), refresh_per_second=8)
            if sys.stderr.isatty()
            else None
        )
        self._next_line = 0.0
        self._base: Accuracies = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sample: Sample) -> None:
        """Show the newest sample."""
        if not self._base:
            self._base = sample.teacher  # before the first task the teacher is version 0
        if self._live is not None:
            self._live.update(self._picture(sample))
        elif time.monotonic() >= self._next_line or sample.tasks == NUM_TASKS:
            self._next_line = time.monotonic() + _LINE_SECONDS
            sys.stderr.write(
                f"{sample.seconds:5.1f} s  instances {sample.instances:5}  "
                f"task {sample.tasks}/{NUM_TASKS}  version {sample.version}  "
                f"teacher {sample.teacher['drifted']:.3f} on drifted, "
                f"{sample.teacher['plain']:.3f} on plain\n"
            )

    def _picture(self, sample: Sample) -> Group:
        total = len(self._stream.stream)
        is_drifting = sample.instances > self._stream.drift_at
        facts = Table.grid(padding=(0, 2))
        facts.add_column()
        facts.add_column(min_width=len(self._drift))  # so that nothing moves at the drift
        facts.add_column()
        facts.add_row("instances", f"{sample.instances} of {total}", self._bar(sample))
        facts.add_row("stream", Text(self._drift, style="bold") if is_drifting else "plain")
        facts.add_row("tasks learned", f"{sample.tasks} of {NUM_TASKS}")
        facts.add_row("teacher version", str(sample.version), _note("served without a restart"))
        facts.add_row(
            "outer ratio",
            _percent(sample.outer_ratio),
            _note("of the newest task was wrong at first"),
        )
        facts.add_row(
            "freshness",
            _seconds(sample.freshness_seconds),
            _note("age of the newest instance learned"),
        )
        return Group(facts, "", self._accuracies(sample))

    def _bar(self, sample: Sample) -> ProgressBar:
        return ProgressBar(total=len(self._stream.stream), completed=sample.instances, width=30)

    def _accuracies(self, sample: Sample) -> Table:
        table = Table("accuracy", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name in ("drifted", "plain", "forgetting"):
            table.add_column(name, justify="right")
        rows = (
            ("teacher", sample.teacher),
            ("student", sample.student),
            ("base model, untouched", self._base),
        )
        for name, accuracies in rows:
            table.add_row(
                name,
                _percent(accuracies.get("drifted")),
                _percent(accuracies.get("plain")),
                _points(self._base.get("base"), accuracies.get("base")),
            )
        return table


def _note(text: str) -> Text:
    return Text(text, style="dim")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _points(before: float | None, now: float | None) -> str:
    return "-" if before is None or now is None else f"{100 * (before - now):+.1f}"
