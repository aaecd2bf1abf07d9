"""A real Apache Kafka broker in a Docker container."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from ports import free_port

if TYPE_CHECKING:
    from docker.models.containers import Container

START_SECONDS = 300.0
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 60.0
_STARTED = b"Kafka Server started"
_POLL_SECONDS = 0.2


def has_docker(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a Docker engine answers where its clients look for one.

    Asked without Docker's own client, which leaves a socket behind where nobody listens: a stale
    socket file, as a stopped engine leaves, shall mean no more than that there is none.
    """
    address = urlsplit(environment.get("DOCKER_HOST") or _DEFAULT_HOST)
    if address.scheme not in {"unix", "tcp"} or environment.get("DOCKER_TLS_VERIFY"):
        # Over ssh or TLS: whoever sets that up means it.
        return True
    try:
        with _connected(address) as connection:
            connection.request("GET", "/_ping")
            return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False


@contextmanager
def _connected(address: SplitResult) -> Iterator[HTTPConnection]:
    with socket.socket(socket.AF_UNIX if address.scheme == "unix" else socket.AF_INET) as channel:
        channel.settimeout(_ANSWER_SECONDS)
        where = (
            address.path if address.scheme == "unix" else (address.hostname, address.port or 2375)
        )
        channel.connect(where)
        connection = HTTPConnection("docker")
        connection.sock = channel
        with closing(connection):
            yield connection


@contextmanager
def kafka_container(image: str) -> Iterator[str]:
    """Run a broker in a container and give its address; nothing of it is left behind.

    Args:
        image: Takes the broker's settings from KAFKA_ variables, as apache/kafka does.
    """
    # Only where there is an engine: the import alone looks for one.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    port = free_port()
    container = DockerContainer(image).with_bind_ports(9092, port)
    for name, value in container_settings(port).items():
        container = container.with_env(name, value)
    container.start()
    try:
        _wait_until_started(container.get_wrapped_container())
        yield f"127.0.0.1:{port}"
    finally:
        container.stop()


def container_settings(port: int) -> dict[str, str]:
    """Return the broker's settings as the official image takes them: `node.id` as KAFKA_NODE_ID.

    Clients are sent to the host's port, which means nothing inside the container. The broker talks
    to itself too (it marks the end of a transaction in each partition), so it has a listener of
    its own for that.

    Args:
        port: Of the host, bound to the container's 9092.
    """
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093,INSIDE://:9094",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port},INSIDE://localhost:9094",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
        "INSIDE:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_LOG_CLEANER_BACKOFF_MS": "200",
    }


def _wait_until_started(container: "Container") -> None:
    deadline = time.monotonic() + START_SECONDS
    while _STARTED not in (output := container.logs()):
        shown = output[-3000:].decode(errors="replace")
        container.reload()
        assert container.status in {"created", "running"}, f"{container.status}:\n{shown}"
        assert time.monotonic() < deadline, f"not up:\n{shown}"
        time.sleep(_POLL_SECONDS)
