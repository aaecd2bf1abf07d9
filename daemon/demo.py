"""The demo: base model, daemon, producer and predicting client, each a process of its own.

Everything goes through the front door: a configuration file, the stream log, HTTP, signals. What
the demo measures it measures as an outsider would, and it runs plain fine-tuning beside the daemon
on the same stream, to compare with.
"""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from rich.console import Console

from teacherd.daemon.base_training import train_base
from teacherd.daemon.cli_support import progress_bar, say
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.demo_drift import DriftConfig, describe_drift
from teacherd.daemon.demo_process import DemoProcess
from teacherd.daemon.demo_report import (
    PLOT_NAME,
    SUMMARY_NAME,
    DemoResult,
    Sample,
    build_table,
    write_report,
)
from teacherd.daemon.demo_rival import fine_tune_beside
from teacherd.daemon.demo_screen import DemoScreen
from teacherd.daemon.demo_stream import NUM_TASKS, DemoStream, build_demo_stream
from teacherd.daemon.errors import UnavailableError, UsageError
from teacherd.daemon.pretraining import PretrainConfig
from teacherd.daemon.status_client import fetch_status

_START_SECONDS = 120.0
_STALL_SECONDS = 120.0
_STREAM_SECONDS = 45.0
_POLL_SECONDS = 0.25
_MARKER = ".teacherd-demo"
_NUM_IMAGE_AXES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """What `teacherd demo` is told."""

    dataset: str
    data_root: Path
    out: Path
    drift: Literal["rotate", "blur"]
    seed: int


class Demo:
    """Runs the demo from empty folder to report."""

    def __init__(self, config: DemoConfig) -> None:
        self._config = config
        self._out = config.out
        self._samples: list[Sample] = []

    def run(self) -> dict[str, Any]:
        """Run all of it and return the summary.

        Raises:
            UsageError: The data set or the folder cannot be used.
            UnavailableError: One of the processes failed.
        """
        torch.set_num_threads(1)  # the daemon learns beside us on the same cores
        dataset = load_dataset(self._config.dataset, root=self._config.data_root)
        stream = build_demo_stream(
            dataset, drift=DriftConfig(kind=self._config.drift), seed=self._config.seed
        )
        self._prepare_folder()
        self._write_files(stream)
        self._train_base(stream)
        with ExitStack() as stack:
            client_report = self._stream(stream, stack)
        return self._report(stream, client_report)

    def _prepare_folder(self) -> None:
        """Empty the folder of an earlier demo; touch no other."""
        out = self._out
        if out.exists() and any(out.iterdir()) and not (out / _MARKER).exists():
            raise UsageError(f"--out: {out} holds something that is no demo; name another folder")
        shutil.rmtree(out, ignore_errors=True)
        (out / "data").mkdir(parents=True)
        (out / _MARKER).touch()

    def _write_files(self, stream: DemoStream) -> None:
        sets = {"base": stream.base, **stream.held_out}
        for name, dataset in {**sets, "stream": stream.stream}.items():
            _write_npz(self._out / "data" / f"{name}.npz", dataset)
        settings = {
            "model": {"base": str(self._out / "base")},
            "process": {
                "state_directory": str(self._out / "state"),
                "seed": self._config.seed,
                "num_threads": 1,
            },
            "stream_log": {"path": str(self._out / "stream.db")},
            "tasks": {"instances": stream.task_instances, "min_instances": 1},
            # A drift is to be followed: more of the new is taken over than by default.
            "learning": {
                "distillation": {"label_share": 0.7},
                "consolidation": {"retain": 0.3},
            },
            "evaluation": {
                "sets": {name: str(self._out / "data" / f"{name}.npz") for name in sets}
            },
            "endpoints": {"port": 0},
            "logging": {"format": "json"},
        }
        self._config_path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

    @property
    def _config_path(self) -> Path:
        return self._out / "config.yaml"

    def _train_base(self, stream: DemoStream) -> None:
        config = PretrainConfig()
        with progress_bar("base model, epochs", config.epochs) as bar:
            train_base(
                stream.base,
                held_out=stream.held_out["plain"],
                network="small_cnn" if len(stream.base.input_shape) == _NUM_IMAGE_AXES else "mlp",
                arguments={},
                config=config,
                seed=self._config.seed,
                device=torch.device("cpu"),
                out=self._out / "base",
                on_epoch=lambda epoch: bar.update(epoch.number),
            )

    def _stream(self, stream: DemoStream, stack: ExitStack) -> dict[str, Any]:
        """Run the three processes until everything is learned; return what the client saw."""
        daemon = self._start(stack, "daemon", ["run", "--config", str(self._config_path)])
        url = self._wait_for_daemon(daemon)
        client = self._start_client(stack)
        rate = len(stream.stream) / _STREAM_SECONDS
        data = str(self._out / "data" / "stream.npz")
        arguments = ["produce", data, "--config", str(self._config_path), "--rate", f"{rate:.1f}"]
        producer = self._start(stack, "producer", arguments)
        with DemoScreen(stream) as screen:
            self._watch(url, [daemon, client], screen)
        producer.finish()
        client.say("end")
        report: dict[str, Any] = json.loads(client.finish())
        daemon.terminate()
        return report

    def _start(self, stack: ExitStack, name: str, arguments: list[str]) -> DemoProcess:
        process = DemoProcess(name, ["teacherd.daemon", *arguments], log=self._out / f"{name}.log")
        stack.callback(process.close)
        return process

    def _start_client(self, stack: ExitStack) -> DemoProcess:
        root = self._out / "state" / "public"
        inputs = self._out / "data" / "drifted.npz"
        client = DemoProcess(
            "client",
            ["teacherd.daemon.demo_client", str(root), str(inputs)],
            log=self._out / "client.log",
        )
        stack.callback(client.close)
        return client

    def _wait_for_daemon(self, daemon: DemoProcess) -> str:
        """Wait until it has started; return its address."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            daemon.require_alive()
            listening = daemon.first_event("listening")
            if listening is not None and daemon.first_event("started") is not None:
                return f"http://127.0.0.1:{listening['port']}"
            time.sleep(_POLL_SECONDS)
        raise UnavailableError(f"the daemon does not start, see {self._out / 'daemon.log'}")

    def _watch(self, url: str, processes: list[DemoProcess], screen: DemoScreen) -> None:
        """Sample the daemon until every task is decided.

        Raises:
            UnavailableError: A process ended, or nothing moves any more.
        """
        started = last_change = time.monotonic()
        while not self._samples or self._samples[-1].tasks < NUM_TASKS:
            time.sleep(_POLL_SECONDS)
            for process in processes:
                process.require_alive()
            now = time.monotonic()
            sample = _sample(fetch_status(url), seconds=now - started)
            if not self._samples or sample.instances != self._samples[-1].instances:
                last_change = now
            if now - last_change > _STALL_SECONDS:
                raise UnavailableError(f"nothing moves, see {self._out / 'daemon.log'}")
            self._samples.append(sample)
            screen.show(sample)

    def _report(self, stream: DemoStream, client: Mapping[str, Any]) -> dict[str, Any]:
        with progress_bar("plain fine-tuning on the same stream, tasks", NUM_TASKS) as bar:
            rival = fine_tune_beside(
                stream, base=self._out / "base", seed=self._config.seed, on_task=bar.update
            )
        result = DemoResult(
            dataset=stream.base.name,
            drift=describe_drift(DriftConfig(kind=self._config.drift)),
            drift_at=stream.drift_at,
            task_instances=stream.task_instances,
            seed=self._config.seed,
            seconds=self._samples[-1].seconds,
            base=rival.base,
            samples=self._samples,
            fine_tuning=rival.after_tasks,
            versions=self._samples[-1].version + 1,
            predictions=client["predictions"],
            failed_predictions=client["failed_predictions"],
            swaps=client["swaps"],
        )
        summary = write_report(result, self._out)
        Console().print(build_table(result))
        say(f"plot: {self._out / PLOT_NAME}, figures: {self._out / SUMMARY_NAME}")
        return summary


def _sample(status: Mapping[str, Any], *, seconds: float) -> Sample:
    """Read one sample off /status."""
    lineage, learning = status["lineage"], status["learning"]
    newest = status["teacher"]["newest_event_ms"]
    return Sample(
        seconds=seconds,
        instances=status["intake"]["records"],
        tasks=lineage["tasks"],
        version=lineage["current"],
        teacher=learning["teacher_accuracy"],
        student=learning.get("student_accuracy", {}),
        outer_ratio=learning.get("outer_ratio"),
        freshness_seconds=None if newest is None else time.time() - newest / 1000,
    )


def _write_npz(path: Path, dataset: Dataset) -> None:
    np.savez(path, inputs=dataset.inputs, labels=dataset.labels, classes=np.array(dataset.classes))
