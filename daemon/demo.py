"""The demo: base model, daemon, producer and predicting client, each a process of its own.

Everything goes through the front door: a configuration file, the stream log, HTTP, signals. What
the demo measures it measures as an outsider would, and it runs plain fine-tuning beside the daemon
on the same stream, to compare with.
"""

import importlib.util
import json
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

import numpy as np
import torch
import yaml

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.daemon.base_training import train_base
from teacherd.daemon.cli_support import progress_bar, say
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.demo_classes import (
    MIN_INSTANCES_PER_TASK,
    build_new_classes_stream,
    describe_new_classes,
)
from teacherd.daemon.demo_drift import DriftConfig, describe_drift
from teacherd.daemon.demo_folder import DemoFolder
from teacherd.daemon.demo_process import DemoProcess
from teacherd.daemon.demo_report import DemoResult, Sample, write_report
from teacherd.daemon.demo_rival import fine_tune_beside
from teacherd.daemon.demo_screen import DemoScreen
from teacherd.daemon.demo_stream import NUM_TASKS, DemoStream, build_demo_stream
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.pretraining import PretrainConfig
from teacherd.daemon.signals import handled
from teacherd.daemon.source_opening import make_topic
from teacherd.daemon.status_client import fetch_status

_START_SECONDS = 300.0
_STALL_SECONDS = 120.0
_POLL_SECONDS = 0.25
_NUM_IMAGE_AXES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """What `teacherd demo` is told."""

    dataset: str
    data_root: Path
    out: Path
    drift: Literal["rotate", "blur"]
    """What happens halfway, if no classes come."""
    seconds: float
    """How long the stream is produced for; the daemon may take longer to learn it."""
    seed: int
    new_classes: int = 0
    """Classes that come halfway, in place of the drift; the base model does not have them."""
    topic: KafkaConfig | None = None
    """The topic that is learned from; None takes a stream log in the folder."""


LEARNING: Mapping[str, Any] = {
    "distillation": {"label_share": 0.7, "dust": "noise"},
    "consolidation": {"retain": 0.0},
}
"""A drift is to be followed: labels weigh more than by default, nothing holds between two drifted
inputs, and a task of a hundred is taken over whole."""


class Demo:
    """Runs the demo from empty folder to report."""

    def __init__(self, config: DemoConfig) -> None:
        self._config = config
        self._out = config.out
        self._samples: list[Sample] = []
        self._num_classes = 0
        """Of the head, as last seen."""

    def run(self) -> DemoResult:
        """Run all of it, write figures and plot into the folder, and return what was measured.

        Raises:
            UsageError: The data set or the folder cannot be used.
            TemporaryError: Another demo runs in the folder.
            UnavailableError: One of the processes failed, or a library is missing.
        """
        _require_libraries()
        torch.set_num_threads(1)  # the daemon learns beside us on the same cores
        dataset = load_dataset(self._config.dataset, root=self._config.data_root)
        stream = self._deal_out(dataset)
        # With its processes, as Ctrl-C ends it.
        handlers = {signal.SIGTERM: _end, signal.SIGHUP: _end}
        with handled(handlers), ExitStack() as stack:
            stack.callback(DemoFolder(self._out).close)
            say(
                f"{dataset.name}: {len(stream.base)} instances for the base model, "
                f"{len(stream.stream)} for the stream, {len(stream.held_out['plain'])} held out; "
                f"everything is made in {self._out}"
            )
            self._write_files(stream)
            self._train_base(stream)
            client_report = self._stream(stream, stack)
            return self._report(stream, client_report)

    def _deal_out(self, dataset: Dataset) -> DemoStream:
        config = self._config
        if config.new_classes:
            return build_new_classes_stream(dataset, number=config.new_classes, seed=config.seed)
        return build_demo_stream(dataset, drift=DriftConfig(kind=config.drift), seed=config.seed)

    def _write_files(self, stream: DemoStream) -> None:
        (self._out / "data").mkdir()
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
            **self._source_settings(),
            "tasks": {"instances": stream.task_instances, "min_instances": 1},
            "learning": LEARNING,
            # Tasks of a hundred: a share of the default 5 % would rarely be enough to be sure.
            "gate": {"holdout_share": 0.15},
            "evaluation": {
                "sets": {name: str(self._out / "data" / f"{name}.npz") for name in sets}
            },
            **self._classes_settings(stream),
            "endpoints": {"port": 0},
            "logging": {"format": "json"},
        }
        self._config_path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

    def _classes_settings(self, stream: DemoStream) -> dict[str, Any]:
        """Return when a label becomes a class: in a demo everything comes a hundredfold faster."""
        if stream.num_old_classes is None:
            return {}
        enough = max(2, round(MIN_INSTANCES_PER_TASK * stream.task_instances))
        return {"classes": {"unknown": "grow", "min_instances": enough}}

    def _source_settings(self) -> dict[str, Any]:
        """Return where the stream goes, made if need be; only what comes from now on is learned."""
        topic = self._config.topic
        if topic is None:
            return {"stream_log": {"path": str(self._out / "stream.db")}}
        make_topic(topic, num_partitions=1)
        return {
            "source": "kafka",
            "kafka": {
                "bootstrap_servers": topic.bootstrap_servers,
                "topic": topic.topic,
                "group": f"teacherd-demo-{secrets.token_hex(4)}",
                "start_at": "latest",
            },
        }

    @property
    def _config_path(self) -> Path:
        return self._out / "config.yaml"

    @property
    def _drift(self) -> str:
        if self._config.new_classes:
            return describe_new_classes(self._config.new_classes)
        return describe_drift(DriftConfig(kind=self._config.drift))

    def _train_base(self, stream: DemoStream) -> None:
        config = PretrainConfig()
        with progress_bar("base model, epochs", config.epochs) as bar:
            train_base(
                replace(stream.base, classes=stream.base_classes),
                held_out=replace(stream.held_out["plain"], classes=stream.base_classes),
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
        say("starting the daemon, a producer and a client that predicts")
        daemon = self._start(stack, "daemon", ["run", "--config", str(self._config_path)])
        url = self._wait_for_daemon(daemon)
        client = self._start_client(stack)
        rate = len(stream.stream) / self._config.seconds
        data = str(self._out / "data" / "stream.npz")
        arguments = ["produce", data, "--config", str(self._config_path), "--rate", f"{rate:.3f}"]
        producer = self._start(stack, "producer", arguments)
        with DemoScreen(stream, drift=self._drift) as screen:
            for sample in self._samples_until_learned(url, len(stream.stream)):
                screen.show(sample)
                for process in (daemon, client):
                    process.require_running()
                producer.require_no_failure()
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
            daemon.require_running()
            listening = daemon.first_event("listening")
            if listening is not None and daemon.first_event("started") is not None:
                return f"http://127.0.0.1:{listening['port']}"
            time.sleep(_POLL_SECONDS)
        raise UnavailableError(f"the daemon does not start, see {self._out / 'daemon.log'}")

    def _samples_until_learned(self, url: str, num_instances: int) -> Iterator[Sample]:
        """Sample the daemon until every task is decided, and its intake has told so, too.

        Yields:
            The newest sample; while the daemon does not answer, the one before again.

        Raises:
            UnavailableError: Nothing moves any more.
        """
        started = last_change = time.monotonic()
        before: object = None
        while _progress(self._samples) != (num_instances, NUM_TASKS):
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            try:
                status = fetch_status(url)
                self._samples.append(_sample(status, seconds=now - started))
                self._num_classes = status["classes"]["head"]
                # Steps, too: on a machine that is busy a task takes minutes.
                seen = (_progress(self._samples), status["task"])
                if seen != before:
                    before, last_change = seen, now
            except UnavailableError:
                if not self._samples:  # it is listening: the first answer must come
                    raise
            if now - last_change > _STALL_SECONDS:
                raise UnavailableError(f"nothing moves, see {self._out / 'daemon.log'}")
            yield self._samples[-1]

    def _report(self, stream: DemoStream, client: Mapping[str, Any]) -> DemoResult:
        with progress_bar("plain fine-tuning on the same stream, tasks", NUM_TASKS) as bar:
            rival = fine_tune_beside(
                stream, base=self._out / "base", seed=self._config.seed, on_task=bar.update
            )
        result = DemoResult(
            dataset=stream.base.name,
            drift=self._drift,
            drift_at=stream.drift_at,
            task_instances=stream.task_instances,
            seed=self._config.seed,
            seconds=self._samples[-1].seconds,
            base=rival.base,
            samples=self._samples,
            fine_tuning=rival.after_tasks,
            versions=len({sample.version for sample in self._samples}),
            num_classes=(len(stream.base_classes), self._num_classes),
            predictions=client["predictions"],
            failed_predictions=client["failed_predictions"],
            swaps=client["swaps"],
        )
        write_report(result, self._out)
        return result


def _progress(samples: list[Sample]) -> tuple[int, int]:
    return (samples[-1].instances, samples[-1].tasks) if samples else (0, 0)


def _sample(status: Mapping[str, Any], *, seconds: float) -> Sample:
    """Read one sample off /status."""
    lineage, learning = status["lineage"], status["learning"]
    newest = status["teacher"]["newest_event_ms"]
    return Sample(
        seconds=seconds,
        instances=status["intake"]["records"],
        tasks=lineage["tasks"],
        version=lineage["current"],
        teacher=learning["head_accuracy"],
        student=learning.get("student_accuracy", {}),
        outer_ratio=learning.get("outer_ratio"),
        freshness_seconds=None if newest is None else time.time() - newest / 1000,
    )


def _write_npz(path: Path, dataset: Dataset) -> None:
    np.savez(path, inputs=dataset.inputs, labels=dataset.labels, classes=np.array(dataset.classes))


def _require_libraries() -> None:
    """Miss what the end needs now, not after minutes."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("the demo draws with matplotlib: pip install 'teacherd[demo]'")


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
