"""The daemon's parts, assembled in the test's own thread, to be turned by hand."""

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from base_models import NUM_FEATURES, untrained_base
from stream_writing import append_records

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Entry, Outcome, Plan
from teacherd.daemon.history import History
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard

CLASSES = ("cat", "dog", "owl")


@dataclass(slots=True)
class Clock:
    """A clock that moves when a test says so."""

    seconds: float = 1_900_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


@dataclass(slots=True)
class Bench:
    """An assembly with everything that a test wants to look at."""

    directory: Path
    settings: dict[str, Any]
    clock: Clock = field(default_factory=Clock)
    stop: threading.Event = field(default_factory=threading.Event)
    metrics: Metrics = field(default_factory=Metrics)
    board: StatusBoard = field(default_factory=lambda: StatusBoard(monotonic=lambda: 0.0))

    def assemble(self, history: History | None = None) -> Assembly:
        """Build and start the parts."""
        assembly = Assembly(
            parse(Config, self.settings, origin="test"),
            metrics=self.metrics,
            board=self.board,
            history=history,
            stop=self.stop,
            now=self.clock,
            monotonic=self.clock,
        )
        try:
            assembly.start()
        except Exception:
            assembly.close()
            raise
        return assembly

    def copy_to(self, directory: Path) -> "Bench":
        """Return the same daemon elsewhere, with its state and its stream."""
        shutil.copytree(self.directory, directory)
        settings = {
            **self.settings,
            "process": {"state_directory": str(directory / "state"), "num_threads": 1},
            "stream_log": {"path": str(directory / "stream.db")},
        }
        return Bench(directory, settings)

    def append(self, records: list[NewRecord]) -> None:
        """Append to the stream log."""
        append_records(self.settings["stream_log"]["path"], records)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Outcome)]

    def plans(self) -> list[Plan]:
        """Return the plans in the lineage log."""
        return [each for each in self.entries() if isinstance(each, Plan)]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric."""
        return self.metrics.registry.get_sample_value(f"teacherd_{name}", labels)

    def entries(self) -> list[Entry]:
        """Return the whole lineage log."""
        log = self.directory / "state" / "lineage.log"
        return [logged.entry for logged in read_lineage_log(log)]


def make_bench(directory: Path, **sections: dict[str, Any]) -> Bench:
    """Make a bench over a base model of four features, with tasks of ten instances."""
    settings = {
        "model": {"base": str(untrained_base(directory))},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": 10, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 3, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "gate": {"holdout_share": 0},  # what passes no gate is served at once
    }
    return Bench(directory, {**settings, **sections})


def feature_records(count: int, *, seed: int = 0) -> list[NewRecord]:
    """Return records of four features each."""
    rng = np.random.default_rng(seed)
    return [
        build_record(
            encode_npy(rng.normal(size=NUM_FEATURES).astype(np.float32)),
            content_type=NPY,
            label=CLASSES[place % len(CLASSES)],
        )
        for place in range(count)
    ]


def bad_record() -> NewRecord:
    """Return a record that is no instance."""
    return build_record(b"no array", content_type=NPY, label="cat")
