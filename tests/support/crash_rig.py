"""Kills a daemon, lets the next start make up for it, and looks whether anything was lost.

One rig is one lineage on one stream. A test or a benchmark brings the stream, says when to kill,
and holds the findings against those of a run that nothing happened to.
"""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from accounting import Accounts, Identity, account
from base_models import digits
from forked_daemon import ForkedDaemon, Preparation

from teacherd.consumers.dead_letters import KeptLetter
from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.durable import failpoints
from teacherd.daemon.entries import Outcome, Retry
from teacherd.daemon.errors import ExitCode
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.replaying import replay_versions
from teacherd.models.hot_teacher import HotTeacher

TASK_INSTANCES = 30
BAD_EVERY = 10
_POLL_SECONDS = 0.01
GATED: Mapping[str, dict[str, Any]] = {
    "gate": {
        "holdout_share": 0.3,
        "allowance": 0.1,
        "forgetting": 0.1,
        "confidence": 0.6,
        "max_held": 1,
    },
    "learning": {
        "epochs": 4,
        "batch_size": 16,
        "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.1},
        "distillation": {"form": "fused", "temperature": 1.0},
        "consolidation": {"freezing_epochs": 1, "interval_epochs": 1, "retain": 0.05},
    },
    "checkpoints": {"interval_steps": 3},
}
"""Settings of a gate so bold that a few instances decide: with TURNED labels probations fail, their
versions are rolled back, and what had arrived is begun again."""
TURNED = (1,)
"""Tasks with wrong labels, counted from 0."""
_DEADLINE_SECONDS = 300.0
_AFTERMATH_SECONDS = 2.0


def crash_settings(directory: Path, base: Path) -> dict[str, Any]:
    """Return what makes a small, quick daemon that writes a checkpoint at every step."""
    return {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1},
        "learning": {"epochs": 6, "consolidation": {"freezing_epochs": 2, "interval_epochs": 2}},
        "checkpoints": {"interval_steps": 1},
        "gate": {"holdout_share": 0},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }


def crash_records(num_tasks: int, *, turned: Sequence[int] = ()) -> list[NewRecord]:
    """Return digits that are enough for so many tasks; every tenth record is no instance.

    Args:
        num_tasks: Of TASK_INSTANCES each, counted from 0.
        turned: Tasks whose labels are all wrong by one.
    """
    data = digits()
    num_task_records = TASK_INSTANCES * BAD_EVERY // (BAD_EVERY - 1)
    return [
        build_record(
            b"no array" if place % BAD_EVERY == BAD_EVERY - 1 else encode_npy(data.inputs[place]),
            content_type=NPY,
            label=(int(data.labels[place]) + (place // num_task_records in turned)) % 10,
        )
        for place in range(num_task_records * num_tasks + 5)
    ]


class Stream(Protocol):
    """What a rig needs to know of where the records come from."""

    def records(self) -> Mapping[Partition, Sequence[int]]:
        """Return the offsets of all records that were appended, deleted ones included."""

    def letters(self) -> list[Identity]:
        """Return the origins of the dead letters."""


class StreamLogStream:
    """A stream log, as appended in one go to a new file."""

    def __init__(self, path: Path) -> None:
        self._config = StreamLogConfig(path=str(path))

    def records(self) -> Mapping[Partition, Sequence[int]]:
        """Return the offsets, which begin at 1 and have no gaps."""
        log = StreamLog(self._config)
        end = log._end()
        log.close()
        return {Partition(self._config.topic, 0): range(1, end)}

    def letters(self) -> list[Identity]:
        """Return the origins of the dead letters."""
        letters = StreamLogDeadLetters(self._config)
        kept: Sequence[KeptLetter] = letters.list(1 << 30)
        letters.close()
        return [(each.letter.origin, each.letter.offset) for each in kept]


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill one run: at a failpoint, or so long after its start."""

    failpoint: str | None = None
    seconds: float | None = None

    @property
    def is_certain(self) -> bool:
        """Whether every run comes to where it is killed, be it long after the last outcome."""
        return self.failpoint is not None and not self.failpoint.startswith("*")


@dataclass(slots=True)
class Findings:
    """What became of one lineage, crashes and all."""

    kills: int
    accounts: Accounts
    decided: list[tuple[int, str, int | None, str | None]]
    wrong: list[str] = field(default_factory=list)
    """In words: what a crash left behind, or a decided version that was made again."""


def decided(outcomes: Sequence[Outcome]) -> list[tuple[int, str, int | None, str | None]]:
    """Return what must be equal: task, result, version, sha256 of the weights."""
    return [(each.task, each.result, each.version, each.sha256) for each in outcomes]


class CrashRig:
    """Runs of the daemon over one state directory, most of them killed.

    Args:
        num_tasks: What each run goes to; None is the end of the data.
    """

    def __init__(
        self, directory: Path, settings: dict[str, Any], stream: Stream, *, num_tasks: int | None
    ) -> None:
        self.daemon = ForkedDaemon(settings, directory)
        self._settings = settings
        self._stream = stream
        self._num_tasks = num_tasks
        self._state = Path(settings["process"]["state_directory"])
        self._kept: dict[int, tuple[int, int]] = {}
        self._wrong: list[str] = []
        self._kills = 0

    def kill_once(self, kill: Kill, *preparations: Preparation) -> bool:
        """Start a run and kill it; return False if it had learned everything before that."""
        self.daemon.start(kill.failpoint, *preparations)
        end = time.monotonic() + (_DEADLINE_SECONDS if kill.seconds is None else kill.seconds)
        while time.monotonic() < end and self.daemon.is_alive:
            if not kill.is_certain and self._is_done():
                # What follows the last outcome may still be where it is to be killed.
                end = min(end, time.monotonic() + _AFTERMATH_SECONDS)
                break
            time.sleep(_POLL_SECONDS)
        while time.monotonic() < end and self.daemon.is_alive:
            time.sleep(_POLL_SECONDS)
        was_killed = kill.failpoint is None or not self.daemon.is_alive
        assert was_killed or not kill.is_certain, (
            f"it never came to {kill.failpoint}:\n{self.daemon.log_path.read_text()[-3000:]}"
        )
        self.daemon.kill()
        code = self.daemon.wait()
        if code != -signal.SIGKILL:
            self._wrong.append(f"ended with {code}: {self.daemon.log_path.read_text()[-2000:]}")
        self._kills += was_killed
        self._remember_decided()
        return was_killed

    def run_under(self, *preparations: Preparation) -> int:
        """Run until all is learned or the run ends by itself; return its exit code."""
        self.daemon.start(None, *preparations)
        if not preparations:
            self.daemon.wait_until_started()
        end = time.monotonic() + _DEADLINE_SECONDS
        while self.daemon.is_alive and not self._is_done():
            assert time.monotonic() < end, self.daemon.log_path.read_text()[-3000:]
            time.sleep(_POLL_SECONDS)
        code = self.daemon.terminate() if self.daemon.is_alive else self.daemon.wait()
        self._remember_decided()
        return code

    def finish(self) -> Findings:
        """Run to the end of the data and look."""
        code = self.run_under()
        if code != ExitCode.OK:
            self._wrong.append(f"ended with {code}")
        self._look_for_remains()
        return Findings(self._kills, self.accounts(), self.decided(), self._wrong)

    def replay(self) -> str:
        """Make every version again from the run's own log and records; `equal` is as it must be."""
        config = parse(Config, self._settings, origin="test")
        return replay_versions(
            config, target=None, start=None, out=None, on_task=lambda _done, _all: None
        ).result

    def decided(self) -> list[tuple[int, str, int | None, str | None]]:
        """Return what was decided about the data that the rig runs to."""
        return decided(self.daemon.outcomes())[: self._num_tasks]

    def accounts(self) -> Accounts:
        """Account for every record."""
        return account(
            self.daemon.entries(),
            records=self._stream.records(),
            letters=self._stream.letters(),
        )

    def close(self) -> None:
        """Leave no process behind."""
        self.daemon.close()

    def _is_done(self) -> bool:
        if self._num_tasks is not None:
            return len(self.daemon.outcomes()) >= self._num_tasks
        places = account(self.daemon.entries(), records={}, letters=[]).places
        is_read = all(
            places.get(partition, 0) > offsets[-1]
            for partition, offsets in self._stream.records().items()
        )
        return is_read and len(self.daemon.outcomes()) == len(self.daemon.plans())

    def _version_facts(self, version: int) -> tuple[int, int] | None:
        try:
            facts = (self._state / "public" / "versions" / f"{version:06d}").stat()
        except FileNotFoundError:
            return None
        return facts.st_ino, facts.st_mtime_ns

    def _remember_decided(self) -> None:
        """Note the very folders of the versions that have an outcome."""
        for outcome in self.daemon.outcomes():
            if outcome.version is not None and outcome.version not in self._kept:
                facts = self._version_facts(outcome.version)
                if facts is not None:
                    self._kept[outcome.version] = facts

    def _look_for_remains(self) -> None:
        """A decided version is the very folder that it was; nothing lies about."""
        for version, facts in self._kept.items():
            if self._version_facts(version) not in {facts, None}:
                self._wrong.append(f"version {version} was decided, and made again all the same")
        entries = self.daemon.entries()
        counts = Counter(each.task for each in entries if isinstance(each, Outcome))
        counts.subtract(
            each.task for each in entries if isinstance(each, Retry) and each.cause != "nonfinite"
        )
        self._wrong += [f"task {task} has {n} outcomes" for task, n in counts.items() if n > 1]
        self._wrong += [f"{path} was left behind" for path in self._state.rglob(".tmp-*")]
        lineage = Lineage()
        for entry in entries:
            lineage.apply(entry)
        named = {f"{version:06d}" for version in lineage.versions}
        found = {path.name for path in (self._state / "public" / "versions").iterdir()}
        self._wrong += [f"version {name} has no entry" for name in found - named]
        with HotTeacher(self._state / "public") as teacher:
            if teacher.version != lineage.current:
                self._wrong.append(f"version {teacher.version} is served, not {lineage.current}")


@dataclass(frozen=True, slots=True)
class CountFailpoints:
    """Writes the names of all failpoints that a run passes into a file, one a line."""

    path: str

    def __call__(self) -> None:
        """Begin, in the child."""
        failpoints.watch(self._note)

    def _note(self, name: str) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")


def uninterrupted(
    directory: Path, settings: dict[str, Any], stream: Stream, *, num_tasks: int
) -> tuple[Findings, list[str], float]:
    """Return the findings of a run that nothing happens to, its failpoints, and its seconds."""
    passed = directory / "failpoints"
    rig = CrashRig(directory, settings, stream, num_tasks=num_tasks)
    started = time.monotonic()
    try:
        rig.daemon.start(None, CountFailpoints(str(passed)))
        rig.daemon.wait_until(lambda: len(rig.daemon.outcomes()) >= num_tasks)
        seconds = time.monotonic() - started
        rig.daemon.terminate()
        findings = rig.finish()
    finally:
        rig.close()
    return findings, passed.read_text(encoding="utf-8").split(), seconds


def make_rig(
    directory: Path, base: Path, stream: Path, *, num_tasks: int, **sections: dict[str, Any]
) -> CrashRig:
    """Make a rig on a copy of a stream log."""
    shutil.copy(stream, directory / "stream.db")
    settings = {**crash_settings(directory, base), **sections}
    return CrashRig(
        directory, settings, StreamLogStream(directory / "stream.db"), num_tasks=num_tasks
    )
