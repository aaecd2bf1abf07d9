"""What the lineages of benchmarks/crash.py start from and must come to, and their daemons."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from report import ROOT, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))

from base_models import digits_base
from crash_rig import (
    GATED,
    TURNED,
    CrashRig,
    Findings,
    StreamLogStream,
    crash_records,
    crash_settings,
    uninterrupted,
)
from kafka_service import KafkaService
from power_cut import copy_stream
from stream_writing import append_records

NUM_TASKS = 5
NUM_GATED_OUTCOMES = 7
"""Of as many tasks, two of which are put off by a failed probation and begun again."""


@dataclass(kw_only=True)
class Setting:
    """What every lineage starts from, and must come to."""

    directory: Path
    base: Path
    stream: Path
    expected: Findings
    num_failpoints: int
    seconds: float
    gated: Findings
    """What lineages with a gate must come to."""
    kafka: KafkaService
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the figures."""
        self.counts[name] = self.counts.get(name, 0) + number


def prepare(directory: Path, kafka: KafkaService) -> Setting:
    """Make base model and streams, and run daemons that nothing happens to."""
    base = digits_base(directory)
    stream = directory / "stream.db"
    append_records(stream, crash_records(NUM_TASKS))
    append_records(gated_stream(stream), crash_records(NUM_TASKS, turned=TURNED))
    # The first start imports torch for all of them: the second one's duration is that of the rest.
    gated, _, _ = undisturbed(gated_stream(stream), base, NUM_GATED_OUTCOMES, GATED)
    expected, num_failpoints, seconds = undisturbed(stream, base, NUM_TASKS, {})
    return Setting(
        directory=directory,
        base=base,
        stream=stream,
        expected=expected,
        num_failpoints=num_failpoints,
        seconds=seconds,
        gated=gated,
        kafka=kafka,
    )


def gated_stream(stream: Path) -> Path:
    """Return where the stream with wrong labels lies."""
    return stream.with_name("gated.db")


def undisturbed(
    stream: Path, base: Path, num_tasks: int, sections: Mapping[str, Any]
) -> tuple[Findings, int, float]:
    """Run a daemon that nothing happens to; return what it came to, its failpoints, its seconds."""
    directory = stream.with_name(f"{stream.stem}-undisturbed")
    directory.mkdir()
    copy_stream(stream, directory / "stream.db")
    settings = {**crash_settings(directory, base), **sections}
    findings, failpoints, seconds = uninterrupted(
        directory, settings, StreamLogStream(directory / "stream.db"), num_tasks=num_tasks
    )
    progress(f"undisturbed: {len(failpoints)} failpoints in {seconds:.1f} s")
    return findings, len(failpoints), seconds


@contextlib.contextmanager
def fresh_directory(setting: Setting) -> Iterator[Path]:
    """Give a directory with a copy of the stream, and clear it up."""
    with tempfile.TemporaryDirectory(dir=setting.directory) as name:
        copy_stream(setting.stream, Path(name) / "stream.db")
        yield Path(name)


def rig_in(
    directory: Path, setting: Setting, *, state: str = "state", tasks: dict[str, Any] | None = None
) -> CrashRig:
    """Return a rig on the stream of a directory; with `tasks` it runs to the end of the data."""
    settings = crash_settings(directory, setting.base)
    settings["process"]["state_directory"] = str(directory / state)
    settings["tasks"] = tasks or settings["tasks"]
    stream = StreamLogStream(directory / "stream.db")
    return CrashRig(directory, settings, stream, num_tasks=NUM_TASKS if tasks is None else None)


def judge(setting: Setting, findings: Findings, *, same: bool, what: str) -> None:
    """Count what is wrong with a lineage, and say so."""
    accounts = findings.accounts
    setting.count("lost", len(accounts.lost))
    setting.count("twice", len(accounts.twice))
    if not same or findings.wrong:
        setting.count("lineages_unequal")
    is_well = same and not (findings.wrong or accounts.lost or accounts.twice)
    progress(f"{what}: {'as it must be' if is_well else f'WRONG {findings}'}")
