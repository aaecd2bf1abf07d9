"""Starts the daemon as several ranks by torchrun, as a user would, and finds its processes."""

import contextlib
import functools
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch
from daemon_process import DaemonProcess

from teacherd.daemon.entries import Entry, Outcome, Plan
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.models.artifact import version_folder


class RankedDaemon(DaemonProcess):
    """One run of N ranks on this machine; the state directory outlives it.

    Args:
        directory: See DaemonProcess.
        settings: See DaemonProcess.
        num_ranks: How many.
        max_restarts: How often torchrun starts all of them again after one has failed.
    """

    def __init__(
        self,
        directory: Path,
        settings: dict[str, Any],
        *,
        num_ranks: int,
        max_restarts: int = 0,
    ) -> None:
        launcher = (
            *("-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(num_ranks), "--max-restarts", str(max_restarts)),
        )
        super().__init__(directory, settings, launcher=launcher)

    def process_of(self, rank: int) -> int:
        """Return the id of the process that was last a rank."""
        joined = [event for event in self.events("joined") if event["rank"] == rank]
        process: int = joined[-1]["process"]
        return process

    def kill(self) -> None:
        """Kill torchrun and all that it has started, as a power cut would."""
        super().kill()
        for event in self.events("joined"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(event["process"], signal.SIGKILL)

    def kill_inside_a_task(self, *, num_closed: int = 0) -> None:
        """Kill all while a task is planned and not closed, behind so many that are closed."""
        while True:
            self.wait_until(lambda: len(self.plans()) > len(self.outcomes()) >= num_closed)
            leader = psutil.Process(self.process_of(0))
            leader.suspend()
            # Until it stands still, it may close the task.
            self.wait_until(functools.partial(_is_stopped, leader))
            if len(self.plans()) > len(self.outcomes()):
                self.kill()
                return
            leader.resume()

    def entries(self) -> list[Entry]:
        """Return the whole lineage log."""
        path = self.state / "lineage.log"
        return [logged.entry for logged in read_lineage_log(path)] if path.exists() else []

    def plans(self) -> list[Plan]:
        """Return the plans in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Plan)]

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Outcome)]

    def wait_for_outcomes(self, number: int) -> None:
        """Wait until so many tasks are closed."""
        self.wait_until(lambda: len(self.outcomes()) >= number)


def _is_stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


class RankedDaemons:
    """Called in place of RankedDaemon; `close` ends those that were made."""

    def __init__(self) -> None:
        self._made: list[RankedDaemon] = []

    def __call__(
        self, directory: Path, settings: dict[str, Any], *, num_ranks: int, max_restarts: int = 0
    ) -> RankedDaemon:
        """Return one, not started yet."""
        made = RankedDaemon(directory, settings, num_ranks=num_ranks, max_restarts=max_restarts)
        self._made.append(made)
        return self._made[-1]

    def close(self) -> None:
        """End them."""
        for daemon in self._made:
            daemon.close()


def stream_settings(directory: Path, base: Path) -> dict[str, Any]:
    """Return the settings of a daemon that learns digits from a stream log below a directory."""
    return {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": 40, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 4, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }


def largest_difference(one: Path, other: Path, version: int) -> float:
    """Return the largest difference of a version's weights, relative to the largest weight."""
    mine, theirs = (
        safetensors.torch.load_file(
            version_folder(state / "public", version) / "teacher.safetensors"
        )
        for state in (one, other)
    )
    differences = [float((mine[name] - theirs[name]).abs().max()) for name in mine]
    return max(differences) / max(float(each.abs().max()) for each in mine.values())
