"""What does `teacherd serve` cost beside a bare loop over the same network, and beside MLServer?

Closed-loop clients (Triton's own, each with one question at a time, in processes of their own) ask
the real server process; a bare loop computes batches of the same size, as many as a request has,
in this process. Both have one torch thread. Clients take processor time, too: on a machine of few
cores the ratio is that of the whole, not of the server alone.

With `--mlserver PYTHON`, the interpreter of a virtual environment that has mlserver, the same
clients ask MLServer with the same HotTeacher behind it (`parallel_workers: 0`, so that it too is
one process; adaptive batching as large as ours). Both are asked in JSON there: MLServer answers
422 to tensors in bytes.

Figures:
  serve_ratio_to_bare       instances a second, `teacherd serve` / bare loop
  serve_instances_per_second, bare_instances_per_second
  serve_p50_seconds, serve_p99_seconds    latency as the clients see it
  failed_requests           over all windows
  serve_ratio_to_mlserver   instances a second, ours / MLServer's
  mlserver_instances_per_second
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from report import ROOT, Report, alternate, parse_arguments, progress
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from teacherd.models.artifact import load_artifact, version_folder, write_artifact
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.current_pointer import CURRENT, CurrentPointer
from teacherd.models.design import Design
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.provenance import Provenance

MODEL = "teacher"
NUM_CLASSES = 10
NUM_CLIENT_PROCESSES = 2
MLSERVER_RUNTIME = """
import os, sys
sys.path += os.environ["TEACHERD_PATHS"].split(os.pathsep)
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse
import torch
from teacherd.models.hot_teacher import HotTeacher

class Teacher(MLModel):
    async def load(self):
        torch.set_num_threads(1)
        self.teacher = HotTeacher(os.environ["TEACHERD_ROOT"])
        self.teacher.start()
        return True

    async def predict(self, payload):
        said = self.teacher.predict(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output("probabilities", said.probabilities.numpy()),
                   StringCodec.encode_output("labels", list(said.labels))]
        return InferenceResponse(model_name=self.name, model_version=str(said.version),
                                 outputs=outputs)
"""


def main() -> None:
    """Measure, or be a client that is started for it."""
    if "--as-client" in sys.argv:
        be_client(*sys.argv[sys.argv.index("--as-client") + 1 :])
        return
    arguments = parse_arguments(__doc__, add_arguments)
    torch.set_num_threads(1)
    report = Report("serve", arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        publish(root, arguments.network)
        measure_bare(Path(folder), root, arguments, report)
        if arguments.mlserver:
            measure_mlserver(Path(folder), root, arguments, report)
    report.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let the load be chosen."""
    parser.add_argument("--network", default="small_cnn", help="any backbone for 1x28x28 images")
    parser.add_argument("--instances", type=int, default=16, help="of one request")
    parser.add_argument("--clients", type=int, default=8, help="questions at a time")
    parser.add_argument("--mlserver", type=Path, help="interpreter that has mlserver")


def publish(root: Path, name: str) -> None:
    """Publish one version."""
    architecture = BackboneConfig(name=name, input_shape=(1, 28, 28))
    design = Design(
        architecture=architecture,
        classes=tuple(f"class {k}" for k in range(NUM_CLASSES)),
        preprocessing=Preprocessing(mean=(0.3,), std=(0.3,), scale=1 / 255),
    )
    folder = version_folder(root, 1)
    folder.mkdir(parents=True)
    provenance = Provenance(
        lineage="benchmark", version=1, created_at=datetime.now(UTC).isoformat()
    )
    network = build_backbone(architecture, num_classes=NUM_CLASSES)
    manifest = write_artifact(folder, network, design, provenance)
    (root / CURRENT).write_bytes(CurrentPointer.to(root, manifest).to_bytes())


def measure_bare(folder: Path, root: Path, arguments: argparse.Namespace, report: Report) -> None:
    """Put ours against a bare loop."""
    seconds, repetitions = (2.0, 1) if arguments.quick else (10.0, 5)
    windows: list[Window] = []
    with teacherd_serve(folder, root) as address:

        def ours() -> float:
            windows.append(ask(address, seconds, arguments))
            return windows[-1].per_second

        served, bare = alternate(
            ours, lambda: bare_loop(root, seconds, arguments.instances), repetitions=repetitions
        )
    report.add_ratio("serve_ratio_to_bare", served, bare)
    report.add("serve_instances_per_second", served)
    report.add("bare_instances_per_second", bare)
    for percent in (50, 99):
        latencies = [window.quantile(percent / 100) for window in windows[1:]]
        report.add(f"serve_p{percent}_seconds", latencies)
    report.add("failed_requests", [sum(window.num_failed for window in windows)])


def measure_mlserver(
    folder: Path, root: Path, arguments: argparse.Namespace, report: Report
) -> None:
    """Put ours against MLServer."""
    seconds, repetitions = (2.0, 1) if arguments.quick else (10.0, 5)
    with (
        teacherd_serve(folder, root) as our_address,
        mlserver(folder, root, arguments.mlserver) as their_address,
    ):
        ours, theirs = alternate(
            lambda: ask(our_address, seconds, arguments, is_binary=False).per_second,
            lambda: ask(their_address, seconds, arguments, is_binary=False).per_second,
            repetitions=repetitions,
        )
    report.add_ratio("serve_ratio_to_mlserver", ours, theirs)
    report.add("mlserver_instances_per_second", theirs)


def bare_loop(root: Path, seconds: float, num_instances: int) -> float:
    """Compute batches for so long; return instances a second."""
    teacher = load_artifact(version_folder(root, 1))
    images = torch.from_numpy(sample(num_instances))
    count = 0
    started = time.perf_counter()
    with torch.no_grad():
        while time.perf_counter() - started < seconds:
            teacher.network(teacher.manifest.preprocessing.apply(images)).softmax(1)
            count += num_instances
    return count / (time.perf_counter() - started)


class Window:
    """What all clients saw in one window."""

    def __init__(self, answers: Sequence[dict[str, list[float]]], num_instances: int) -> None:
        """Put the clients' answers together."""
        self.latencies = [each for answer in answers for each in answer["latencies"]]
        self.num_failed = sum(int(answer["failed"][0]) for answer in answers)
        seconds = max(answer["seconds"][0] for answer in answers)
        self.per_second = len(self.latencies) * num_instances / seconds

    def quantile(self, share: float) -> float:
        """Return a quantile of the latency in seconds."""
        return float(np.quantile(self.latencies, share))


def ask(
    address: str, seconds: float, arguments: argparse.Namespace, *, is_binary: bool = True
) -> Window:
    """Have all clients ask for so long."""
    per_process = max(1, arguments.clients // NUM_CLIENT_PROCESSES)
    form = "binary" if is_binary else "json"
    values = (address, seconds, per_process, arguments.instances, form)
    command = [sys.executable, __file__, "--as-client", *map(str, values)]
    clients = [
        subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(NUM_CLIENT_PROCESSES)
    ]
    answers = [json.loads(client.communicate()[0]) for client in clients]
    return Window(answers, arguments.instances)


def be_client(address: str, seconds: str, num_threads: str, num_instances: str, form: str) -> None:
    """Ask in several threads for so long; print what was seen."""
    latencies: list[float] = []
    failures: list[str] = []

    def run() -> None:
        images = sample(int(num_instances))
        with InferenceServerClient(address) as client:
            tensor = InferInput("inputs", list(images.shape), "UINT8")
            is_binary = form == "binary"
            tensor.set_data_from_numpy(images, binary_data=is_binary)
            outputs = [
                InferRequestedOutput(name, binary_data=is_binary)
                for name in ("probabilities", "labels")
            ]
            while (began := time.perf_counter()) < end:
                try:
                    client.infer(MODEL, [tensor], outputs=outputs).as_numpy("probabilities")
                except Exception as error:  # noqa: BLE001 - any failure is what is counted
                    failures.append(f"{type(error).__name__}: {error}")
                else:
                    latencies.append(time.perf_counter() - began)

    started = time.perf_counter()
    end = started + float(seconds)
    threads = [threading.Thread(target=run) for _ in range(int(num_threads))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures[:1]:
        progress(failure)
    took = time.perf_counter() - started
    print(json.dumps({"latencies": latencies, "failed": [len(failures)], "seconds": [took]}))


def sample(count: int) -> np.ndarray:
    """Return raw images."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)


@contextmanager
def teacherd_serve(folder: Path, root: Path) -> Iterator[str]:
    """Run our server; yields its address."""
    port = free_port()
    (folder / "config.yaml").touch()
    flags = [f"serving.port={port}", "serving.device=cpu", "serving.num_threads=1"]
    command = [sys.executable, "-m", "teacherd.daemon", "serve", str(root)]
    command += ["-c", str(folder / "config.yaml")]
    for flag in flags:
        command += ["--set", flag]
    with running(command, port, {}):
        yield f"127.0.0.1:{port}"


@contextmanager
def mlserver(folder: Path, root: Path, python: Path) -> Iterator[str]:
    """Run MLServer; yields its address."""
    models, port = folder / "mlserver", free_port()
    models.mkdir()
    (models / "runtime.py").write_text(MLSERVER_RUNTIME)
    settings = {
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
    }
    (models / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": MODEL,
        "implementation": "runtime.Teacher",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    (models / "model-settings.json").write_text(json.dumps(model))
    # Its own packages come first; ours add what it lacks.
    paths = (Path(np.__file__).parent.parent, ROOT / "build" / "ns")
    environment = {
        "PYTHONPATH": str(models),
        "TEACHERD_PATHS": os.pathsep.join(map(str, paths)),
        "TEACHERD_ROOT": str(root),
    }
    command = [str(python.parent / "mlserver"), "start", str(models)]
    with running(command, port, environment):
        yield f"127.0.0.1:{port}"


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run a server, and wait until it is ready."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready"
        while not is_ready(url):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    """Tell whether a server answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
