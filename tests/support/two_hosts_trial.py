"""Two ranks on two hosts: the link between them is cut inside a task, and mended.

Broker, state directory and rank 0 are on the first host, rank 1 on the second. torchrun runs on
both; where it ends, as it does on a host that finds the rendezvous no more, it is started again, as
systemd or Kubernetes would. Run by the test of the same name, or by hand, as root:

    python tests/support/two_hosts_trial.py

The last line is JSON: seconds cut, tasks, and records planned not exactly once.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import yaml
from kafka_broker import KafkaCluster
from kafka_daemon import fates, kafka_settings
from ports import free_port
from pouring_topic import PouringTopic
from ranked_daemon import RankedDaemon
from two_hosts import FIRST, SECOND, TwoHosts, cut, inside, mend

from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon

TOPIC = "instances"
RENDEZVOUS_PORT = 29400
CUT_SECONDS = 30.0
LIMIT_SECONDS = 600.0


class Supervised:
    """torchrun on one host, started again whenever it fails."""

    def __init__(self, name: str, address: str, directory: Path) -> None:
        self._command = inside(
            name,
            *("env", "OMP_NUM_THREADS=1", f"GLOO_SOCKET_IFNAME={name}"),
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "1000"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{FIRST}:{RENDEZVOUS_PORT}"),
            # It does not find by itself that an address of its own names it.
            *("--rdzv-conf", f"is_host={int(address == FIRST)}"),
            *("--rdzv-id", "trial", "--local-addr", address),
            *("-m", "teacherd.daemon", "run", "--config", str(directory / "config.yaml")),
        )
        self._directory = directory
        self._is_over = False
        self._process: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended in order."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "does not end"

    def close(self) -> None:
        """End it, whatever it does."""
        self._is_over = True
        if self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        with (self._directory / "daemon.log").open("ab") as log:
            while not self._is_over and self.code != 0:
                self._process = subprocess.Popen(
                    self._command, cwd=self._directory, stdout=log, stderr=subprocess.STDOUT
                )
                self.code = self._process.wait()
                time.sleep(1)


def main() -> None:
    """Make the hosts, and go on in the first one."""
    with TwoHosts() as hosts, tempfile.TemporaryDirectory() as directory:
        command = (sys.executable, __file__, directory, *hosts.names)
        done = subprocess.run(inside(hosts.names[0], *command), check=False)
    sys.exit(done.returncode)


def run(directory: Path, names: tuple[str, str]) -> dict[str, Any]:
    """Run the trial on the first host; return what came of it."""
    cluster = make_cluster(directory)
    bootstrap = f"{FIRST}:{cluster.nodes[0].port}"
    folders = [directory / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        write_settings(folder, bootstrap)
    cluster.tool(
        "org.apache.kafka.tools.TopicCommand",
        *("--bootstrap-server", bootstrap, "--create", "--topic", TOPIC, "--partitions", "2"),
    )
    log = RankedDaemon(folders[0], read_settings(folders[0]), num_ranks=2)
    torchruns = []
    try:
        with PouringTopic(bootstrap, TOPIC, num_partitions=2) as pouring:
            addresses = (FIRST, SECOND)
            for name, address, folder in zip(names, addresses, folders, strict=True):
                torchruns.append(Supervised(name, address, folder))
            wait_until(lambda: len(log.outcomes()) >= 1, folders)
            wait_until(lambda: len(log.plans()) > len(log.outcomes()), folders)
            unfinished = log.plans()[-1].task
            cut(names[1])
            time.sleep(CUT_SECONDS)
            closed = len(log.outcomes())
            mend(names[1])
            wait_until(lambda: len(log.outcomes()) >= closed + 2, folders)
        ask_daemon(folders[0] / "state", Command("drain", None))
        for each in torchruns:
            each.wait(LIMIT_SECONDS)
    finally:
        for each in torchruns:
            each.close()
        cluster.close()
    counts = fates(log.plans(), pouring.offsets)
    return {
        "cut_seconds": CUT_SECONDS,
        "unfinished_when_cut": unfinished,
        "closed_while_cut": closed,
        "tasks": len(log.outcomes()),
        "plans": len(log.plans()),
        "records": len(counts),
        "not_exactly_once": sum(count != 1 for count in counts.values()),
        "results": sorted({outcome.result for outcome in log.outcomes()}),
    }


def make_cluster(directory: Path) -> KafkaCluster:
    """Start a broker that the other host finds, too."""
    port, controller = free_port(), free_port()
    return KafkaCluster(
        directory,
        first_port=port,
        settings={
            "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{FIRST}:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "inter.broker.listener.name": "PLAINTEXT",
        },
    ).start()


def write_settings(folder: Path, bootstrap: str) -> None:
    """Write the configuration of one host; only the state directory is its own."""
    settings = kafka_settings(folder, bootstrap, TOPIC, process={"rank_timeout_seconds": 15.0})
    settings["process"] |= {"learning_niceness": 0}
    settings["learning"] |= {"epochs": 8, "batch_size": 8}
    settings["tasks"] |= {"instances": 40, "max_age_seconds": 5.0}
    settings["checkpoints"] = {"interval_seconds": 0.2}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the configuration of a host."""
    settings: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return settings


def wait_until(condition: Callable[[], bool], folders: Sequence[Path]) -> None:
    """Wait for a condition, and fail with what the hosts have said if it does not come true."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            said = [(folder / "daemon.log").read_text(errors="replace") for folder in folders]
            raise AssertionError("not within the limit:\n" + "\n".join(x[-3000:] for x in said))
        time.sleep(0.05)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    folder, first, second = sys.argv[1:]
    print(json.dumps(run(Path(folder), (first, second))), flush=True)  # noqa: T201 (for the test)
