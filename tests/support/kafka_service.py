"""The Kafka that tests talk to: one that is given, one in a container, or a broker in Java."""

import itertools
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_broker import KafkaCluster, free_port, open_admin

from teacherd.consumers.record import NewRecord

ADDRESS_VARIABLE = "TEACHERD_TEST_KAFKA"
IMAGE_VARIABLE = "TEACHERD_TEST_KAFKA_IMAGE"
_OFFICIAL_IMAGE = "apache/kafka:4.3.0"
_CONTAINER_SECONDS = 120


class KafkaService:
    """A broker that is up, and the few things that tests do to it.

    Args:
        cluster: The brokers, where this process started them.
    """

    def __init__(self, bootstrap: str, cluster: KafkaCluster | None = None) -> None:
        self.bootstrap = bootstrap
        self._cluster = cluster
        self._names = (f"t{secrets.token_hex(3)}-{number}" for number in itertools.count())

    @property
    def cluster(self) -> KafkaCluster:
        """Return the brokers as processes; the test is skipped where they are somebody else's."""
        if self._cluster is None:
            pytest.skip(f"needs a broker that the test starts itself: unset {ADDRESS_VARIABLE}")
        return self._cluster

    def create_topic(
        self, *, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str] | None = None
    ) -> str:
        """Make a topic under a name that no other test has."""
        name = next(self._names)
        self.create_named(name, partitions=partitions, replicas=replicas, configs=configs)
        return name

    def create_named(
        self,
        name: str,
        *,
        partitions: int = 1,
        replicas: int = 1,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """Make a topic."""
        admin = open_admin(self.bootstrap)
        try:
            topic = {
                "num_partitions": partitions,
                "replication_factor": replicas,
                "configs": dict(configs or {}),
            }
            admin.create_topics({name: topic}, wait_for_metadata=True)
        finally:
            admin.close()

    def delete_topic(self, name: str) -> None:
        """Delete a topic."""
        admin = open_admin(self.bootstrap)
        try:
            admin.delete_topics([name])
        finally:
            admin.close()

    def add_partitions(self, topic: str, total: int) -> None:
        """Give a topic more partitions."""
        admin = open_admin(self.bootstrap)
        try:
            admin.create_partitions({topic: total})
        finally:
            admin.close()

    def delete_records(self, topic: str, partition: int, below: int) -> None:
        """Delete what lies below an offset, as retention does."""
        admin = open_admin(self.bootstrap)
        try:
            admin.delete_records({TopicPartition(topic, partition): below})
        finally:
            admin.close()

    def produce(
        self,
        topic: str,
        records: Sequence[NewRecord],
        *,
        partition: int | None = 0,
        **settings: object,
    ) -> list[int]:
        """Append records and return their offsets."""
        options = {"bootstrap_servers": self.bootstrap, "linger_ms": 5, **settings}
        producer = KafkaProducer(**options)
        try:
            sent = [
                producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=partition,
                )
                for record in records
            ]
            return [each.get(60).offset for each in sent]
        finally:
            producer.close()

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last committed record of each partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level="read_committed")
        try:
            numbers = consumer.partitions_for_topic(topic)
            ends = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
            return {partition.partition: end for partition, end in ends.items()}
        finally:
            consumer.close()


@contextmanager
def kafka_service(directory: Path, environment: Mapping[str, str]) -> Iterator[KafkaService]:
    """Give a Kafka: the one at TEACHERD_TEST_KAFKA, else a container, else a broker in Java.

    Where none can be had the test is skipped, or fails where nothing may be missing.
    """
    address = environment.get(ADDRESS_VARIABLE)
    if address:
        yield KafkaService(address)
    elif _has_docker():
        with _container(environment.get(IMAGE_VARIABLE, _OFFICIAL_IMAGE)) as bootstrap:
            yield KafkaService(bootstrap)
    else:
        cluster = KafkaCluster(directory, environment=environment)
        try:
            cluster.start()
            yield KafkaService(cluster.bootstrap, cluster)
        finally:
            cluster.close()


def _has_docker() -> bool:
    """Tell whether a Docker engine answers."""
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        return False
    import docker  # noqa: PLC0415 (only where there is an engine)

    try:
        client = docker.from_env(timeout=5)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):
        return False


@contextmanager
def _container(image: str) -> Iterator[str]:
    """Run a broker in a container, which advertises the host's port."""
    # Only where there is an engine: the import alone looks for one.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.waiting_utils import wait_for_logs  # noqa: PLC0415

    port = free_port()
    container = DockerContainer(image).with_bind_ports(9092, port)
    for name, value in _container_settings(port).items():
        container = container.with_env(name, value)
    with container:
        wait_for_logs(container, "Kafka Server started", timeout=_CONTAINER_SECONDS)
        yield f"127.0.0.1:{port}"


def _container_settings(port: int) -> dict[str, str]:
    """Return the configuration as the official image takes it."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
