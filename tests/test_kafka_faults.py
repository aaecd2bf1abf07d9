"""What brokers do to a daemon: they go away, come back, change leaders, hang, drop connections."""

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from forked_daemon import ForkedDaemon
from kafka import KafkaConsumer, TopicPartition
from kafka_broker import PASSWORD, USER, KafkaCluster
from kafka_daemon import assert_each_once, feature_values, kafka_settings
from kafka_service import KafkaService
from signing_keys import make_certificate
from stalling_proxy import StallingProxy

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_source import KafkaSource
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.source import CommitError, SourceError, SourceRefusedError
from teacherd.daemon.errors import ExitCode

OpenCluster = Callable[..., KafkaCluster]
IDLE_SECONDS = 2
AWAY_SECONDS = float(os.environ.get("TEACHERD_TEST_AWAY_SECONDS", "6"))
"""For how long the broker is away; a minute is worth a try by hand."""
WAIT_SECONDS = 300.0


@pytest.fixture
def open_cluster(tmp_path: Path) -> Iterator[OpenCluster]:
    """Give `open_cluster(proxy=None, **arguments)`: brokers that the test may mistreat."""
    opened: list[KafkaCluster] = []

    def open_one(*, proxy: StallingProxy | None = None, **arguments: object) -> KafkaCluster:
        directory = tmp_path / "brokers"
        directory.mkdir()
        port = None if proxy is None else proxy.port
        opened.append(KafkaCluster(directory, advertised_port=port, **arguments))
        if proxy is not None:
            proxy.target_port = opened[-1].nodes[0].port
        return opened[-1].start()

    yield open_one
    for cluster in opened:
        cluster.close()


@pytest.fixture
def open_daemon(tmp_path: Path) -> Iterator[Callable[..., ForkedDaemon]]:
    """Give `open_daemon(bootstrap, topic, **sections)`; none is left behind."""
    opened: list[ForkedDaemon] = []

    def open_one(bootstrap: str, topic: str, **sections: dict[str, object]) -> ForkedDaemon:
        settings = kafka_settings(tmp_path, bootstrap, topic, **sections)
        opened.append(ForkedDaemon(settings, tmp_path))
        return opened[-1]

    yield open_one
    for daemon in opened:
        daemon.close()


def readiness(daemon: ForkedDaemon) -> int:
    """Return what /readyz answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/readyz", timeout=60) as answer:
        code: int = answer.status
        return code


def test_a_broker_that_dies_and_comes_back_costs_nothing(
    open_cluster: OpenCluster, open_daemon: Callable[..., ForkedDaemon]
) -> None:
    """The daemon stays ready, says what is wrong a few times only, and goes on by itself."""
    cluster = open_cluster()
    service = KafkaService(cluster.bootstrap, cluster)
    topic = service.create_topic(partitions=2)
    produced = {
        number: service.produce(topic, feature_values(10), partition=number) for number in (0, 1)
    }
    daemon = open_daemon(cluster.bootstrap, topic, learning={"epochs": 150})
    daemon.start()
    daemon.wait_until(lambda: len(daemon.plans()) >= 1)
    cluster.kill()
    deadline = time.monotonic() + AWAY_SECONDS
    codes = []
    while time.monotonic() < deadline:
        codes.append(readiness(daemon))
        time.sleep(0.5)
    daemon.wait_until(lambda: "source_unavailable" in daemon.log_path.read_text())

    assert {200} == {*codes, readiness(daemon)}

    away_lines = daemon.log_path.read_text().splitlines()
    cluster.start()
    for number in (0, 1):
        produced[number] += service.produce(topic, feature_values(10, seed=1), partition=number)
    daemon.wait_until(lambda: len(daemon.outcomes()) == 4)

    assert ExitCode.OK == daemon.terminate()
    assert_each_once(daemon.plans(), produced)
    assert "source_recovered" in daemon.log_path.read_text()
    assert 40 > len(away_lines)


def test_a_leader_that_dies_is_replaced(
    open_cluster: OpenCluster, open_daemon: Callable[..., ForkedDaemon]
) -> None:
    """Of three brokers: whichever leads now has everything that was acknowledged."""
    cluster = open_cluster(num_brokers=3, settings={"min.insync.replicas": "2"})
    service = KafkaService(cluster.bootstrap, cluster)
    topic = service.create_topic(replicas=3)
    offsets = service.produce(topic, feature_values(15))
    daemon = open_daemon(cluster.bootstrap, topic)
    daemon.start()
    daemon.wait_until(lambda: len(daemon.outcomes()) == 1)
    cluster.kill(leader_of(cluster, topic))
    offsets += service.produce(topic, feature_values(25, seed=1))
    daemon.wait_until(lambda: len(daemon.outcomes()) == 4)

    assert ExitCode.OK == daemon.terminate()
    assert_each_once(daemon.plans(), {0: offsets})


def leader_of(cluster: KafkaCluster, topic: str) -> int:
    """Return the number of the broker that leads partition 0."""
    consumer = KafkaConsumer(bootstrap_servers=cluster.bootstrap)
    try:
        consumer.partitions_for_topic(topic)
        leader: int = consumer._cluster.leader_for_partition(TopicPartition(topic, 0))
        return leader
    finally:
        consumer.close()


def take(source: KafkaSource, count: int) -> list[int]:
    """Poll until so many records have come; return their offsets."""
    offsets: list[int] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(offsets) < count:
        assert time.monotonic() < deadline, offsets
        batch = source.poll(100, 0.2)
        offsets += [] if batch is None else batch.offsets
    return offsets


def open_source(bootstrap: str, topic: str, **settings: object) -> KafkaSource:
    """Return a source that stands at its first places."""
    config = KafkaConfig(bootstrap_servers=bootstrap, topic=topic, group=f"{topic}-group")
    source = KafkaSource(replace(config, **settings), lineage="aaaa")
    places = dict(source.first_places(source.partitions()))
    source.seek(places)
    source.release(places, needed_from={})
    return source


def test_connections_that_are_dropped_while_idle_are_made_again(open_cluster: OpenCluster) -> None:
    """Reading and committing go on after a long task, and after a long silence of the topic."""
    cluster = open_cluster(settings={"connections.max.idle.ms": str(IDLE_SECONDS * 1000)})
    service = KafkaService(cluster.bootstrap, cluster)
    topic = service.create_topic()
    partition = Partition(topic, 0)
    service.produce(topic, [NewRecord(b"value")] * 5)
    source = open_source(cluster.bootstrap, topic)
    try:
        assert list(range(5)) == take(source, 5)

        source.pause()
        time.sleep(2.5 * IDLE_SECONDS)
        source.release({partition: 5}, needed_from={})
        service.produce(topic, [NewRecord(b"value")] * 5)
        source.resume()

        assert list(range(5, 10)) == take(source, 5)

        silence = time.monotonic() + 2.5 * IDLE_SECONDS
        while time.monotonic() < silence:
            assert source.poll(100, 0.2) is None
        service.produce(topic, [NewRecord(b"value")] * 5)

        assert list(range(10, 15)) == take(source, 5)
        source.release({partition: 15}, needed_from={})
    finally:
        source.close()


def test_a_client_that_cannot_be_replaced_yet_goes_on_answering(open_cluster: OpenCluster) -> None:
    """A batch could not be read, and now the broker is away: all of that may pass."""
    cluster = open_cluster()
    topic = KafkaService(cluster.bootstrap, cluster).create_topic()
    source = open_source(cluster.bootstrap, topic)
    places = {Partition(topic, 0): 0}
    try:
        source._is_broken = True
        source._config = replace(source._config, extra={"bootstrap_timeout_ms": 500})
        cluster.kill()
        with pytest.raises(SourceError, match="connecting again"):
            source.seek(places)

        with pytest.raises(SourceError, match="asking for the last stable offsets"):
            source.lag()
        with pytest.raises(CommitError):
            source.release(places, needed_from={})
    finally:
        source.close()


def test_a_partition_whose_fetches_hang_is_told(open_cluster: OpenCluster) -> None:
    """Its end grows, its position does not, and nobody has paused it."""
    proxy = StallingProxy()
    try:
        cluster = open_cluster(proxy=proxy)
        service = KafkaService(f"127.0.0.1:{proxy.port}", cluster)
        topic = service.create_topic()
        partition = Partition(topic, 0)
        service.produce(topic, [NewRecord(b"value")] * 5)
        source = open_source(service.bootstrap, topic, stall_seconds=1.0)
        try:
            take(source, 5)
            proxy.stall()
            service.produce(topic, [NewRecord(b"value")] * 5)
            deadline = time.monotonic() + WAIT_SECONDS
            while not source.lag()[partition].is_stalled:
                assert time.monotonic() < deadline, source.lag()
                source.poll(100, 0.2)

            assert 5 == source.lag()[partition].records

            proxy.flow()

            assert list(range(5, 10)) == take(source, 5)
            assert not source.lag()[partition].is_stalled
        finally:
            source.close()
    finally:
        proxy.close()


def test_a_listener_that_wants_a_password_gets_it(kafka: KafkaService) -> None:
    """SASL/PLAIN of the real broker; nobody is let in with another password."""
    topic = kafka.create_topic()
    kafka.produce(topic, [NewRecord(b"value")] * 3)
    security = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
    }
    bootstrap = kafka.cluster.sasl_bootstrap
    source = open_source(bootstrap, topic, **security)
    try:
        assert [0, 1, 2] == take(source, 3)
    finally:
        source.close()

    for change, told in (
        (
            {"sasl_password": "wrong"},
            "sasl_password: .* refused us: .*Invalid username or password",
        ),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "sasl_mechanism: .* refused us: "),
    ):
        with pytest.raises(SourceRefusedError, match=told):
            open_source(bootstrap, topic, **{**security, **change})


def test_a_daemon_whose_password_is_refused_is_not_started_again(
    kafka: KafkaService, open_daemon: Callable[..., ForkedDaemon]
) -> None:
    """By its exit code; an absent broker, which may come, has another."""
    topic = kafka.create_topic()
    security = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": USER,
        "sasl_password": "wrong",
    }
    daemon = open_daemon(kafka.cluster.sasl_bootstrap, topic, kafka=security)
    daemon.start()

    assert ExitCode.CONFIGURATION == daemon.wait()
    assert "kafka.sasl_password: " in daemon.log_path.read_text()


def test_a_listener_that_speaks_tls_is_trusted_by_its_authority(
    open_cluster: OpenCluster, open_daemon: Callable[..., ForkedDaemon], tmp_path: Path
) -> None:
    """And by no other: nobody learns from whoever answers at that address."""
    certificate, key = make_certificate(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    store = tmp_path / "store.pem"
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    cluster = open_cluster(keystore=store)
    service = KafkaService(cluster.bootstrap, cluster)
    topic = service.create_topic()
    service.produce(topic, [NewRecord(b"value")] * 3)
    source = open_source(
        cluster.tls_bootstrap, topic, security_protocol="SSL", ssl_cafile=str(certificate)
    )
    try:
        assert [0, 1, 2] == take(source, 3)
    finally:
        source.close()

    # In a process of its own: kafka-python leaves sockets of failed handshakes to the collector.
    daemon = open_daemon(cluster.tls_bootstrap, topic, kafka={"security_protocol": "SSL"})
    daemon.start()

    assert ExitCode.CONFIGURATION == daemon.wait()
    assert "kafka.ssl_cafile: the certificate of " in daemon.log_path.read_text()


def test_kafkas_own_tool_sees_the_lag(kafka: KafkaService) -> None:
    """ConsumerGroupCommand shows places, ends and lag of a group that has no members."""
    topic = kafka.create_topic(partitions=2)
    kafka.produce(topic, [NewRecord(b"value")] * 7)
    source = open_source(kafka.bootstrap, topic)
    source.release({Partition(topic, 0): 4}, needed_from={})
    source.close()
    shown = kafka.cluster.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        *("--bootstrap-server", kafka.bootstrap, "--describe", "--group", f"{topic}-group"),
    )
    rows = [line.split() for line in shown.splitlines() if topic in line]

    assert {("0", "4", "7", "3"), ("1", "0", "0", "0")} == {tuple(row[2:6]) for row in rows}
