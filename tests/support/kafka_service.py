"""The Kafka that tests talk to: one that is given, one in a container, or a broker in Java."""

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError
from kafka_broker import LIMIT_SECONDS, KafkaCluster, open_admin
from kafka_container import has_docker, kafka_container

from teacherd.consumers.record import NewRecord

ADDRESS_VARIABLE = "TEACHERD_TEST_KAFKA"
IMAGE_VARIABLE = "TEACHERD_TEST_KAFKA_IMAGE"
_OFFICIAL_IMAGE = "apache/kafka:4.3.0"


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
            pytest.skip(
                f"needs a broker that the test starts itself: unset {ADDRESS_VARIABLE}, "
                f"and set {IMAGE_VARIABLE} to nothing where a Docker engine answers"
            )
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

    def replace_topic(self, name: str, *, partitions: int = 1) -> None:
        """Delete a topic and make another under its name."""
        self.delete_topic(name)
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            try:
                self.create_named(name, partitions=partitions)
            except TopicAlreadyExistsError:
                # Brokers delete in their own time.
                assert time.monotonic() < deadline, f"{name} is not deleted"
                time.sleep(0.1)
            else:
                return

    def add_partitions(self, topic: str, total: int) -> None:
        """Give a topic more partitions."""
        admin = open_admin(self.bootstrap)
        try:
            admin.create_partitions({topic: total})
            deadline = time.monotonic() + LIMIT_SECONDS
            while _num_led(admin.describe_topics([topic])) < total:
                # A producer would refuse what the broker does not know of yet.
                assert time.monotonic() < deadline, f"{topic} has no {total} partitions"
                time.sleep(0.1)
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
        options = {
            "bootstrap_servers": self.bootstrap,
            "linger_ms": 5,
            "max_block_ms": int(LIMIT_SECONDS * 1000),
            "delivery_timeout_ms": int(LIMIT_SECONDS * 1000),
            **settings,
        }
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
            return [each.get(LIMIT_SECONDS).offset for each in sent]
        finally:
            producer.close()

    def produce_with_a_gap(self, topic: str, records: Sequence[NewRecord], below: int) -> list[int]:
        """Append records, and delete those below an offset before anybody can have read them.

        In a transaction, which hides all of them from readers of what is committed until its end.
        """
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id=f"{topic}-{secrets.token_hex(3)}"
        )
        try:
            producer.init_transactions()
            producer.begin_transaction()
            sent = [
                producer.send(topic, each.value, headers=list(each.headers), partition=0)
                for each in records
            ]
            offsets = [each.get(LIMIT_SECONDS).offset for each in sent]
            self.delete_records(topic, 0, below)
            producer.commit_transaction()
        finally:
            producer.close()
        return offsets

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last committed record of each partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level="read_committed")
        try:
            numbers = consumer.partitions_for_topic(topic)
            ends = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
            return {partition.partition: end for partition, end in ends.items()}
        finally:
            consumer.close()


def _num_led(topics: Sequence[Mapping[str, Any]]) -> int:
    """Return how many partitions of the only topic have a leader."""
    (topic,) = topics
    return sum(each["leader_id"] >= 0 for each in topic["partitions"])


@contextmanager
def kafka_service(directory: Path, environment: Mapping[str, str]) -> Iterator[KafkaService]:
    """Give a Kafka: the one at TEACHERD_TEST_KAFKA, else a container, else a broker in Java.

    The container is of the image that TEACHERD_TEST_KAFKA_IMAGE names, else of the official one;
    empty, the variable says that there shall be none, whatever engine answers.
    Where none can be had the test is skipped, or fails where nothing may be missing.
    """
    address = environment.get(ADDRESS_VARIABLE)
    image = environment.get(IMAGE_VARIABLE, _OFFICIAL_IMAGE)
    if address:
        yield KafkaService(address)
    elif image and has_docker():
        with kafka_container(image) as bootstrap:
            yield KafkaService(bootstrap)
    else:
        cluster = KafkaCluster(directory, environment=environment)
        try:
            cluster.start()
            yield KafkaService(cluster.bootstrap, cluster)
        finally:
            cluster.close()
