"""One installed chart: the daemon in its pod, the inference pods, and what they have done."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trial_cluster import PRODUCER, Cluster, expect, fail, wait_until
from trial_scripts import ASK, OUT_OF_MEMORY, PATTERNS, POST, STATUS

CHART = Path(__file__).resolve().parent / "chart"
TASK_RECORDS = 50
_CONFIG = ("--config", "/etc/teacherd/config.yaml")
_TOKEN = "trial"  # noqa: S105 (of a namespace that is deleted)
_WAIT = ("--wait", "--timeout", "10m")
_MARK = "/tmp/asking"  # noqa: S108 (of the pod)


class Release:
    """A release in a trial's namespace.

    Args:
        config: Laid over a configuration of small tasks, each of which gives a version.
        first: Offset of the first record of the source.
        pods: Of the daemon; with several nobody serves inference.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        config: dict[str, Any],
        *,
        first: int = 1,
        pods: int = 1,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._first = first
        self._values = _values(cluster.image, config, pods)
        self.produced = 0

    def install(self) -> float:
        """Install it, wait until all is ready, and return for how long."""
        began = time.monotonic()
        with self._file() as file:
            self._cluster.helm("install", self._name, str(CHART), "--values", file, *_WAIT)
        return round(time.monotonic() - began, 1)

    def upgrade(self, *arguments: str, timeout: str = "10m") -> tuple[int, str]:
        """Upgrade with more arguments, wait until all is ready; return exit code and output."""
        with self._file() as file:
            command = ("upgrade", self._name, str(CHART), "--values", file, *arguments)
            return self._cluster.try_to("helm", *command, "--wait", "--timeout", timeout)

    def rollback(self) -> None:
        """Go back to the revision before."""
        self._cluster.helm("rollback", self._name, *_WAIT)

    def uninstall(self) -> None:
        """Remove it; its claim stays."""
        self._cluster.helm("uninstall", self._name, "--wait", "--timeout", "3m")

    def claims(self) -> list[str]:
        """Return the names of the claims there are."""
        return [each["metadata"]["name"] for each in self._cluster.get("pvc")["items"]]

    @contextmanager
    def _file(self) -> Iterator[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(self._values, file)
            file.flush()
            yield file.name

    # The daemon.

    def post(self, count: int) -> None:
        """Produce over HTTP, by the Service's name."""
        address = f"http://{self._name}:9464"
        answer = self._cluster.client(POST, address, _TOKEN, str(self.produced), str(count))
        expect(int(answer) == count, f"{count} appended, not {answer}")
        self.produced += count

    def status(self) -> dict[str, Any]:
        """Return /status; nothing while nobody answers."""
        code, answer = self._exec("python3", "-c", STATUS)
        return {} if code else dict(json.loads(answer))

    def learned(self) -> int:
        """Return how many records the lineage has decided about."""
        places = self.status().get("lineage", {}).get("places", {})
        return sum(place - self._first for place in places.values())

    def wait_until_learned(self) -> None:
        """Wait until all that was produced is learned, and hold that no more is."""
        wait_until(lambda: self.learned() >= self.produced, "the records to be learned")
        expect(self.learned() == self.produced, f"{self.produced} learned, not {self.learned()}")

    def wait_until_in_task(self) -> None:
        """Wait until the daemon is in the middle of a task."""
        wait_until(self.is_in_task, "a task in training")

    def is_in_task(self) -> bool:
        """Tell whether the daemon is in the middle of a task."""
        return bool((self.status().get("task") or {}).get("steps_done", 0))

    def verify(self) -> int:
        """Hold every version against the lineage log; return how many there are."""
        code, answer = self._exec("teacherd", "versions", "verify", "--json", *_CONFIG)
        expect(code == 0, f"versions that verify, not {answer}")
        return len(json.loads(answer))

    def lineage(self) -> tuple[str, str]:
        """Return the lineage's id, as `teacherd status` says it, and its log so far."""
        code, answer = self._exec("teacherd", "status", "--json", *_CONFIG)
        expect(code == 0, f"a status, not {answer}")
        return json.loads(answer)["lineage"]["id"], self._exec("cat", "state/lineage.log")[1]

    def expect_same(self, before: tuple[str, str]) -> None:
        """Hold that this is the lineage of before, which has only gone on."""
        lineage, log = self.lineage()
        expect(lineage == before[0], f"the lineage {before[0]}, not {lineage}")
        expect(log.startswith(before[1]), "a log that has only grown")

    def setting(self, section: str, key: str) -> Any:  # noqa: ANN401 (any setting)
        """Return a setting as the daemon resolves it."""
        answer = self._exec("teacherd", "config", "show", "--json", *_CONFIG)[1]
        return json.loads(answer)[section][key]

    def wait_until_joined(self, size: int) -> float:
        """Wait until so many ranks learn together, and as many have reported."""

        def is_there() -> bool:
            status = self.status()
            is_ready = status.get("state") == "ready"
            return is_ready and status.get("ranks", {}).get("size") == size

        return wait_until(is_there, f"{size} ranks that learn together", seconds=600)

    def planned(self) -> int:
        """Return how many records the plans have, each counted as often as it is in one."""
        entries = map(json.loads, self.lineage()[1].splitlines())
        plans = [each for each in entries if each["kind"] == "plan"]
        return sum(closed["count"] for plan in plans for closed in plan["ranges"])

    def daemon(self) -> dict[str, Any] | None:
        """Return the daemon's pod."""
        pods = self._pods("daemon")
        return pods[0] if pods else None

    def wait_until_ready(self, *, not_pod: str | None = None, restarts: int = 0) -> float:
        """Wait for a daemon that is ready, in another pod or after so many restarts."""

        def is_there() -> bool:
            pod = self.daemon()
            return (
                pod is not None
                and pod["metadata"]["uid"] != not_pod
                and _is_ready(pod)
                and pod["status"]["containerStatuses"][0]["restartCount"] >= restarts
            )

        return wait_until(is_there, "a daemon that is ready")

    def delete_pod(self, number: int = 0) -> tuple[str, float]:
        """Delete a pod of the daemon in order; return which it was and how long it took."""
        name = f"{self._name}-{number}"
        uid = self._cluster.get("pod", name)["metadata"]["uid"]
        began = time.monotonic()
        self._cluster.kubectl("delete", "pod", name, "--wait=true")
        return uid, round(time.monotonic() - began, 1)

    def run_out_of_memory(self) -> str:
        """Let the kernel kill the daemon for its memory; return what Kubernetes says of it."""
        restarts = (self.daemon() or {})["status"]["containerStatuses"][0]["restartCount"]
        self._exec("sh", "-c", OUT_OF_MEMORY)
        self.wait_until_ready(restarts=restarts + 1)
        last = (self.daemon() or {})["status"]["containerStatuses"][0]["lastState"]
        return str(last["terminated"]["reason"])

    def _exec(self, *command: str) -> tuple[int, str]:
        where = (f"{self._name}-0", "--container", "teacherd", "--", *command)
        return self._cluster.try_to("kubectl", "exec", *where)

    # The inference pods.

    def serving(self) -> dict[str, int]:
        """Return the inference pods, with how often each was restarted."""
        return {
            pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"]
            for pod in self._pods("serve")
        }

    def wait_until_serving(self, count: int) -> float:
        """Wait for so many inference pods that are ready."""
        return wait_until(
            lambda: sum(_is_ready(pod) for pod in self._pods("serve")) == count, "inference pods"
        )

    @contextmanager
    def asked(self) -> Iterator[dict[str, Any]]:
        """Ask the inference pods all the while; afterwards the dictionary has what they said."""
        found: dict[str, Any] = {}
        address = f"http://{self._name}-serve:9465"
        with self._cluster.client_running("python", "-c", ASK, address, _MARK) as asking:
            try:
                wait_until(self._is_asking, "the client to ask")
                yield found
            finally:
                self._cluster.kubectl("exec", "client", "--", "rm", "-f", _MARK)
            answer, _ = asking.communicate(timeout=60)
            found.update(json.loads(answer))

    def _is_asking(self) -> bool:
        return not self._cluster.try_to("kubectl", "exec", "client", "--", "test", "-e", _MARK)[0]

    def _pods(self, component: str) -> list[dict[str, Any]]:
        labels = {"instance": self._name, "component": component}
        selector = ",".join(f"app.kubernetes.io/{key}={value}" for key, value in labels.items())
        pods: list[dict[str, Any]] = self._cluster.get("pods", "--selector", selector)["items"]
        return pods


def expect_no_failures(found: dict[str, Any]) -> str:
    """Hold that every request was answered; return how many in words."""
    if found["failures"]:
        fail(f"{len(found['failures'])} requests failed: {found['failures'][:3]}")
    return f"{found['answers']} requests meanwhile, 0 failed"


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _values(image: str, config: dict[str, Any], pods: int) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    make = 'python -c "$0"; teacherd pretrain patterns.npz --epochs 5 --out base'
    small = {"cpu": "100m", "memory": "512Mi"}
    return {
        "image": {"repository": repository, "tag": tag},
        "base": {"command": ["sh", "-ec", make, PATTERNS]},
        "persistence": {"size": "2Gi"},
        "daemon": {"pods": pods, "resources": {"requests": small, "limits": {"memory": "3Gi"}}},
        "serve": {
            "enabled": pods == 1,
            "resources": {"requests": small, "limits": {"memory": "2Gi"}},
        },
        "networkPolicy": {"daemonFrom": [{"podSelector": {"matchLabels": PRODUCER}}]},
        "secret": {"environment": {"TEACHERD_ENDPOINTS__TOKEN": _TOKEN}},
        "config": {
            "endpoints": {"accept_instances": True},
            "tasks": {"instances": TASK_RECORDS, "min_instances": 10},
            "learning": {"epochs": 100},
            # Nothing is held out, so that each task gives a version that is served.
            "gate": {"holdout_share": 0},
            **config,
        },
    }
