"""Real Apache Kafka brokers in Java processes: for tests, and by `make kafka` for people."""

import argparse
import base64
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka_jars import fetch_jars, find_java
from ports import HOST, free_port

LIMIT_SECONDS = 300.0
"""For whatever is waited for: Java is slow to start on a machine that does other things."""
USER, PASSWORD = "learner", "learner-secret"
_USUAL_PORT = 9092
_POLL_SECONDS = 0.1
_JAVA_OPTIONS = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_SASL = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
)


@dataclass(slots=True)
class BrokerNode:
    """One broker: its ports stay the same over restarts."""

    number: int
    directory: Path
    port: int = field(default_factory=free_port)
    sasl_port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    advertised_port: int | None = None
    """Where clients are sent instead: the port of a proxy in front of it."""
    inside_port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """Return where clients find it, without a proxy."""
        return f"{HOST}:{self.port}"

    @property
    def log_text(self) -> str:
        """Return what it wrote."""
        return (self.directory / "broker.log").read_text(errors="replace")


class KafkaCluster:
    """Brokers that are controllers as well (KRaft), on loopback ports, with data in a directory.

    Args:
        directory: Must exist; holds configuration, data and output.
        settings: Laid over the brokers' configuration.
        advertised_port: Of a proxy in front of the only broker.
        keystore: Key and certificate, PEM, of one more listener that speaks TLS.
        first_port: Of the first broker, the others follow; where one is taken it is another.
    """

    def __init__(
        self,
        directory: Path,
        *,
        num_brokers: int = 1,
        settings: Mapping[str, str] | None = None,
        advertised_port: int | None = None,
        keystore: Path | None = None,
        first_port: int | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._java = find_java(environment)
        self._jars = fetch_jars(environment)
        # Kafka's tool takes an id that begins with "-", as one in 64 would, for an option.
        self._id = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:].rstrip("=")
        self._settings = dict(settings or {})
        self._keystore = keystore
        self.nodes = [
            BrokerNode(number, directory / f"broker-{number}", advertised_port=advertised_port)
            for number in range(1, num_brokers + 1)
        ]
        for node in self.nodes:
            if first_port is not None:
                node.port = free_port(first_port + node.number - 1)
            self._format(node)

    @property
    def bootstrap(self) -> str:
        """Return the addresses, as clients take them."""
        return ",".join(node.address for node in self.nodes)

    @property
    def sasl_bootstrap(self) -> str:
        """Return the addresses that want SASL/PLAIN with USER and PASSWORD."""
        return ",".join(f"{HOST}:{node.sasl_port}" for node in self.nodes)

    @property
    def tls_bootstrap(self) -> str:
        """Return the addresses that speak TLS, with the certificate of the keystore."""
        return ",".join(f"{HOST}:{node.tls_port}" for node in self.nodes)

    def start(self) -> "KafkaCluster":
        """Start every broker that does not run and wait until all answer."""
        for node in self.nodes:
            if node.process is None:
                self._spawn(node)
        self._wait_until_ready()
        return self

    def kill(self, number: int = 1) -> None:
        """Kill a broker as a crash would."""
        self._end(self.nodes[number - 1], signal.SIGKILL)

    def suspend(self, number: int = 1) -> None:
        """Let a broker hang: its connections stay, nothing answers."""
        self._signal(self.nodes[number - 1], signal.SIGSTOP)

    def wake(self, number: int = 1) -> None:
        """End a suspension."""
        self._signal(self.nodes[number - 1], signal.SIGCONT)

    def stop(self, number: int = 1) -> None:
        """Stop a broker in order."""
        self._end(self.nodes[number - 1], signal.SIGTERM)

    def close(self) -> None:
        """Leave no process behind; what they stored is nobody's."""
        for node in self.nodes:
            self._end(node, signal.SIGKILL)

    def tool(self, main_class: str, *arguments: str) -> str:
        """Run one of Kafka's own command line tools and return its output."""
        done = subprocess.run(
            self._command(main_class, *arguments),
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{main_class}: {done.stdout}{done.stderr}"
        return done.stdout

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        return [str(self._java), *_JAVA_OPTIONS, "-cp", f"{self._jars}/*", main_class, *arguments]

    def _format(self, node: BrokerNode) -> None:
        node.directory.mkdir()
        path = node.directory / "server.properties"
        settings = {**self._defaults(node), **self._tls(node), **self._settings}
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.tool("kafka.tools.StorageTool", "format", "-t", self._id, "-c", str(path))

    def _defaults(self, node: BrokerNode) -> dict[str, str]:
        voters = ",".join(f"{each.number}@{HOST}:{each.controller_port}" for each in self.nodes)
        copies = str(min(3, len(self.nodes)))
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INSIDE",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
            "INSIDE:PLAINTEXT,SASL:SASL_PLAINTEXT",
            "listeners": ",".join(
                [
                    f"PLAINTEXT://{node.address}",
                    f"INSIDE://{HOST}:{node.inside_port}",
                    f"SASL://{HOST}:{node.sasl_port}",
                    f"CONTROLLER://{HOST}:{node.controller_port}",
                ]
            ),
            "advertised.listeners": ",".join(
                [
                    f"PLAINTEXT://{HOST}:{node.advertised_port or node.port}",
                    f"INSIDE://{HOST}:{node.inside_port}",
                    f"SASL://{HOST}:{node.sasl_port}",
                ]
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": _SASL,
            "log.dirs": str(node.directory / "data"),
            "num.network.threads": "2",
            "num.io.threads": "4",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.backoff.ms": "200",
        }

    def _tls(self, node: BrokerNode) -> dict[str, str]:
        if self._keystore is None:
            return {}
        defaults = self._defaults(node)
        protocols = "listener.security.protocol.map"
        door = f"TLS://{HOST}:{node.tls_port}"
        names = ("listeners", "advertised.listeners")
        return {
            **{name: f"{defaults[name]},{door}" for name in names},
            protocols: f"{defaults[protocols]},TLS:SSL",
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": str(self._keystore),
        }

    def _spawn(self, node: BrokerNode) -> None:
        with (node.directory / "broker.log").open("ab") as log:
            node.process = subprocess.Popen(
                self._command("kafka.Kafka", str(node.directory / "server.properties")),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self._answers():
            for node in self.nodes:
                ended = node.process is not None and node.process.poll() is not None
                assert not ended, f"broker {node.number} ended:\n{node.log_text[-3000:]}"
            assert time.monotonic() < deadline, f"not up:\n{self.nodes[0].log_text[-3000:]}"
            time.sleep(_POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            for node in self.nodes:
                with socket.create_connection((HOST, node.port), timeout=1):
                    pass
            admin = open_admin(self.nodes[0].address, seconds=10.0)
            try:
                return len(admin.describe_cluster()["brokers"]) == len(self.nodes)
            finally:
                admin.close()
        except (OSError, KafkaError):
            return False

    def _signal(self, node: BrokerNode, number: int) -> None:
        assert node.process is not None, "the broker does not run"
        node.process.send_signal(number)

    def _end(self, node: BrokerNode, number: int) -> None:
        if node.process is None:
            return
        if number == signal.SIGKILL:
            node.process.kill()
        else:
            node.process.send_signal(number)
        node.process.wait(LIMIT_SECONDS)
        node.process = None


def open_admin(bootstrap: str, *, seconds: float = LIMIT_SECONDS) -> KafkaAdminClient:
    """Return an admin client that gives up after so long."""
    milliseconds = int(seconds * 1000)
    return KafkaAdminClient(
        bootstrap_servers=bootstrap,
        bootstrap_timeout_ms=milliseconds,
        request_timeout_ms=milliseconds,
    )


def main() -> None:
    """Run brokers until interrupted."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--brokers", type=int, default=1)
    number = parser.parse_args().brokers
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="teacherd-kafka-") as directory:
        cluster = KafkaCluster(Path(directory), num_brokers=number, first_port=_USUAL_PORT)
        try:
            cluster.start()
            print(f"bootstrap servers: {cluster.bootstrap}")  # noqa: T201 (for people)
            print(f"SASL/PLAIN as {USER}: {cluster.sasl_bootstrap}")  # noqa: T201
            print(f"data: {directory}, gone when this ends (Ctrl+C)", flush=True)  # noqa: T201
            stop.wait()
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
