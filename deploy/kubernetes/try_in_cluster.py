#!/usr/bin/env python3
"""Install the chart in a real cluster, and put the release through what can happen to it there.

Needs helm and kubectl on the PATH, KUBECONFIG for a cluster one of whose nodes may be drained, and
an image that its nodes have or can pull:

    KUBECONFIG=... python3 deploy/kubernetes/try_in_cluster.py --image teacherd:trial

`--kafka HOST:PORT`, a broker that pods can reach, adds a release that learns from a topic there,
and one of two pods that learn one model from it; `--only learn_as_several_pods` tries this alone.
Works in a namespace of its own that enforces the Pod Security Standard `restricted`, says what each
trial showed, and ends with a JSON object of the figures. Exits 1 at the first trial that fails.
"""

import argparse
import functools
import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from trial_cluster import Cluster, expect, say, wait_until
from trial_release import CHART, TASK_RECORDS, Release, expect_no_failures

RECORDS_AT_ONCE = 100
RELEASE = "teacherd"
TYPO = "daemon: {resorces: {limits: {memory: 8Gi}}}\nconfig: {tasks: {instance: 500}}\n"


class Trial:
    """What is done to the release, in order, and what it showed."""

    def __init__(self, cluster: Cluster, kafka: str | None) -> None:
        self._cluster = cluster
        self._kafka = kafka
        self._release = Release(cluster, RELEASE, {})
        self.figures: dict[str, float] = {}

    def refuse(self) -> None:
        """A mistyped value does not reach the cluster."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
            values.write(TYPO)
            values.flush()
            install = ("install", RELEASE, str(CHART), "--values", values.name)
            code, answer = self._cluster.try_to("helm", *install)
        expect(code != 0, "a refusal")
        said = [each.strip() for each in answer.splitlines() if "additional" in each.lower()]
        expect(len(said) > 1, f"both mistakes by name, not {answer}")
        say("typo in the values: " + "; ".join(said))

    def install(self) -> None:
        """`helm install --wait` returns when daemon and inference pods are ready."""
        self.figures["seconds_to_install"] = self._release.install()
        say(f"installed and ready after {self.figures['seconds_to_install']} s, in `restricted`")

    def publish(self) -> None:
        """What is posted is learned, and inference pods answer with it without a restart."""
        pods = self._release.serving()
        with self._release.asked() as found:
            self._release.post(RECORDS_AT_ONCE)
            self._release.wait_until_learned()
            time.sleep(5)
        expect(len(found["versions"]) > 1, f"several versions, not {found['versions']}")
        expect(pods == self._release.serving(), "the same inference pods, not restarted")
        say(
            f"{RECORDS_AT_ONCE} records by POST, learned; the same inference pods answered with "
            f"versions {', '.join(found['versions'])}: {expect_no_failures(found)}"
        )

    def delete(self) -> None:
        """The daemon's pod goes in the middle of a task; the next one goes on."""
        before = self._release.lineage()
        with self._release.asked() as found:
            self._release.post(RECORDS_AT_ONCE)
            self._release.wait_until_in_task()
            uid, seconds = self._release.delete_pod()
            back = self._release.wait_until_ready(not_pod=uid)
            self._release.wait_until_learned()
        self._release.expect_same(before)
        self.figures |= {"seconds_to_stop": seconds, "seconds_until_back": back}
        say(
            f"pod deleted inside a task: gone after {seconds} s, another ready {back} s later, "
            f"same lineage, {self._release.verify()} versions verified; {expect_no_failures(found)}"
        )

    def run_out_of_memory(self) -> None:
        """The kernel kills the daemon in the middle of a task; it is restarted and goes on."""
        before = self._release.lineage()
        self._release.post(RECORDS_AT_ONCE)
        self._release.wait_until_in_task()
        reason = self._release.run_out_of_memory()
        expect(reason == "OOMKilled", f"OOMKilled, not {reason}")
        self._release.wait_until_learned()
        self._release.expect_same(before)
        say(f"out of memory inside a task: {reason}, restarted, same lineage")

    def upgrade(self) -> None:
        """A changed setting starts the daemon anew, also back; requests are answered meanwhile."""
        before = self._release.lineage()
        epochs = self._release.setting("learning", "epochs")
        with self._release.asked() as found:
            set_all = ("--set", "config.learning.epochs=60,config.serving.max_batch=32")
            code, answer = self._release.upgrade(*set_all)
            expect(code == 0, f"an upgrade, not {answer}")
            expect(self._release.setting("learning", "epochs") != epochs, "the new setting")
            self._release.post(RECORDS_AT_ONCE)
            self._release.wait_until_in_task()
            self._release.rollback()
            expect(self._release.setting("learning", "epochs") == epochs, "the old setting")
            self._release.wait_until_learned()
        self._release.expect_same(before)
        say(f"upgrade and rollback inside a task: same lineage; {expect_no_failures(found)}")

    def fail_upgrade(self) -> None:
        """An upgrade that cannot come up leaves the inference pods, and a rollback mends it."""
        before = self._release.lineage()
        with self._release.asked() as found:
            code, _ = self._release.upgrade("--set", "image.tag=nowhere", timeout="45s")
            expect(code != 0, "an upgrade that fails")
            self._release.rollback()
            self._release.wait_until_ready()
        self._release.expect_same(before)
        say(f"upgrade to an image that is nowhere, rolled back: {expect_no_failures(found)}")

    def drain(self) -> None:
        """A drained node gives the daemon back; the budget keeps an inference pod."""
        before = self._release.lineage()
        pod = self._release.daemon() or {}
        uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
        num_nodes = len(self._cluster.get("nodes")["items"])
        self._release.post(RECORDS_AT_ONCE)
        self._release.wait_until_in_task()
        selector = f"app.kubernetes.io/instance={RELEASE}"
        options = ("--delete-emptydir-data", "--ignore-daemonsets", "--timeout=60s")
        code, answer = self._cluster.try_to(
            "kubectl", "drain", node, "--pod-selector", selector, *options
        )
        try:
            # On the only node no other inference pod can come up, so the last one must stay.
            is_kept = "disruption budget" in answer
            expect(code == 0 or is_kept, f"a drain, or a budget that holds it up, not {answer}")
        finally:
            self._cluster.kubectl("uncordon", node)
        self._release.wait_until_ready(not_pod=uid)
        self._release.wait_until_serving(2)
        self._release.wait_until_learned()
        self._release.expect_same(before)
        kept = "the budget kept the last inference pod" if is_kept else "all pods moved"
        say(f"drain of one of {num_nodes} nodes inside a task: {kept}; same lineage")

    def read_volume(self) -> None:
        """Inference pods that read the daemon's volume, where it is on their node."""
        if len(self._cluster.get("nodes")["items"]) > 1:
            say("serve.source=volume: left out, the claim may not be readable on every node")
            return
        code, answer = self._release.upgrade("--set", "serve.source=volume")
        expect(code == 0, f"an upgrade, not {answer}")
        with self._release.asked() as found:
            self._release.post(RECORDS_AT_ONCE)
            self._release.wait_until_learned()
            time.sleep(5)
        expect(len(found["versions"]) > 1, f"several versions, not {found['versions']}")
        say(f"serve.source=volume, read-only: {expect_no_failures(found)}")

    def count(self) -> None:
        """Every record was learned once, and what is removed leaves the lineage."""
        self._release.wait_until_learned()
        self.figures |= {"produced": self._release.produced, "learned": self._release.learned()}
        self.figures["versions"] = self._release.verify()
        self._release.uninstall()
        claims = self._release.claims()
        expect(f"state-{RELEASE}-0" in claims, f"the claim, not {claims}")
        say(
            f"{self.figures['produced']} records produced, {self.figures['learned']} learned, "
            f"{self.figures['versions']} versions verified; uninstalled, the claim stays"
        )

    def reinstall(self) -> None:
        """Installed again over the claim it goes on where it was."""
        self._release.install()
        expect(self._release.learned() == self._release.produced, "the places of before")
        expect(self._release.verify() == self.figures["versions"], "the versions of before")
        self._release.uninstall()
        say("installed again: the same lineage")

    def learn_from_kafka(self) -> None:
        """The same with a topic: produced, deleted in the middle of a task, counted."""
        if self._kafka is None:
            say("Kafka: left out, no --kafka")
            return
        topic = f"trial-{secrets.token_hex(3)}"
        settings = {"bootstrap_servers": self._kafka, "topic": topic, "group": topic}
        release = Release(
            self._cluster, "teacherd-kafka", {"source": "kafka", "kafka": settings}, first=0
        )
        # The first task's records make the topic, as soon as the broker answers.
        wait_until(lambda: self._produce(topic, TASK_RECORDS) == 0, "a broker that takes records")
        release.produced = TASK_RECORDS + RECORDS_AT_ONCE
        with self._producing(topic):
            release.install()
        release.wait_until_learned()
        before = release.lineage()
        with self._producing(topic):
            release.produced += RECORDS_AT_ONCE
            release.wait_until_in_task()
        uid, _ = release.delete_pod()
        release.wait_until_ready(not_pod=uid)
        release.wait_until_learned()
        release.expect_same(before)
        self.figures |= {"kafka_produced": release.produced, "kafka_learned": release.learned()}
        say(
            f"Kafka: {release.produced} records in the topic, {release.learned()} learned, pod "
            f"deleted inside a task, same lineage, {release.verify()} versions verified"
        )
        release.uninstall()

    def learn_as_several_pods(self) -> None:
        """Two pods learn from a topic of four partitions; either goes in the middle of a task."""
        if self._kafka is None:
            say("several pods: left out, no --kafka")
            return
        topic = f"trial-{secrets.token_hex(3)}"
        settings = {
            "source": "kafka",
            "kafka": {"bootstrap_servers": self._kafka, "topic": topic, "group": topic},
            "process": {"rank_timeout_seconds": 30.0, "learning_niceness": 0},
            # How many records a task has depends on what each pod has read when it is cut.
            "tasks": {"instances": TASK_RECORDS, "min_instances": 1, "max_age_seconds": 5.0},
        }
        release = Release(self._cluster, "teacherd-pods", settings, first=0, pods=2)
        wait_until(
            lambda: self._produce(topic, RECORDS_AT_ONCE, partitions=4) == 0,
            "a broker that takes records",
        )
        release.produced = RECORDS_AT_ONCE
        release.install()
        self.figures["seconds_until_joined"] = release.wait_until_joined(2)
        release.wait_until_learned()
        read = [each["records"] for each in release.status()["ranks"]["each"]]
        expect(all(read), f"records read by both pods, not {read}")
        before = release.lineage()
        for number in (1, 0):
            wait_until(
                functools.partial(self._is_caught_in_task, release, topic),
                "a task in training",
                seconds=900,
            )
            release.delete_pod(number)
            seconds = release.wait_until_joined(2)
            self.figures[f"seconds_until_joined_without_{number}"] = seconds
            release.wait_until_learned()
            release.expect_same(before)
        planned = release.planned()
        expect(planned == release.produced, f"each record in one plan, not {planned}")
        self.figures |= {"pods_produced": release.produced, "pods_planned": planned}
        say(
            f"two pods: {release.produced} records in four partitions, {release.learned()} "
            f"learned, {planned} in plans, each pod deleted inside a task, same lineage, "
            f"{release.verify()} versions verified"
        )
        release.uninstall()

    def _is_caught_in_task(self, release: Release, topic: str) -> bool:
        """Produce more where all is learned: on a busy machine a task is over before one looks."""
        if release.is_in_task():
            return True
        if release.learned() >= release.produced:
            expect(self._produce(topic, RECORDS_AT_ONCE) == 0, "a topic that takes records")
            release.produced += RECORDS_AT_ONCE
        return False

    @contextmanager
    def _producing(self, topic: str) -> Iterator[None]:
        """Produce to a topic meanwhile, for some seconds."""
        command = self._production(topic, RECORDS_AT_ONCE, "--rate", "20")
        with self._cluster.client_running(*command) as producing:
            yield
        expect(producing.returncode == 0, "a topic that takes records")

    def _produce(self, topic: str, count: int, *, partitions: int = 1) -> int:
        production = self._production(topic, count, partitions=partitions)
        command = ("exec", "client", "--", *production)
        return self._cluster.try_to("kubectl", *command)[0]

    def _production(
        self, topic: str, count: int, *options: str, partitions: int = 1
    ) -> tuple[str, ...]:
        to = f"kafka://{self._kafka}/{topic}"
        produce = (
            "teacherd",
            "produce",
            "patterns.npz",
            "--to",
            to,
            "--partitions",
            str(partitions),
        )
        return (*produce, "--limit", str(count), *options)


TOGETHER = (
    Trial.refuse,
    Trial.install,
    Trial.publish,
    Trial.delete,
    Trial.run_out_of_memory,
    Trial.upgrade,
    Trial.fail_upgrade,
    Trial.drain,
    Trial.read_volume,
    Trial.count,
    Trial.reinstall,
)
"""With one release, in this order."""
APART = (Trial.learn_from_kafka, Trial.learn_as_several_pods)
"""Each with a release of its own."""


def main() -> None:
    """Try it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, help="repository:tag")
    parser.add_argument("--namespace", default="teacherd-trial", help="made and deleted")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker that pods can reach")
    parser.add_argument("--keep", action="store_true", help="leave the namespace there")
    apart = [each.__name__ for each in APART]
    parser.add_argument("--only", choices=apart, help="one of the trials that need no other")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.namespace, arguments.image)
    trial = Trial(cluster, arguments.kafka)
    steps = [*TOGETHER, *APART]
    if arguments.only:
        steps = [each for each in APART if each.__name__ == arguments.only]
    with cluster.namespace_of_ours(is_kept=arguments.keep):
        cluster.start_client()
        for step in steps:
            step(trial)
    print(json.dumps(trial.figures))


if __name__ == "__main__":
    main()
