"""Whether a Docker engine answers is told without leaving anything open."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest
from kafka_container import container_settings, has_docker


class _Engine(BaseHTTPRequestHandler):
    """Answers as an engine does, to what is asked of it here."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path == "/_ping" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """Run an engine's front door behind a socket file."""
    # A handler wants an address that a socket file has not.
    server = UnixStreamServer(str(path), lambda *asked: _Engine(asked[0], ("", 0), asked[2]))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_engine_behind_a_socket_file_is_found(tmp_path: Path) -> None:
    """As Docker's own client finds it."""
    path = tmp_path / "docker.sock"
    with listening(path):
        assert has_docker({"DOCKER_HOST": f"unix://{path}"})


def test_a_socket_file_that_nobody_serves_is_no_engine(tmp_path: Path) -> None:
    """A stopped engine leaves one; warnings, also of sockets left open, are errors here."""
    path = tmp_path / "docker.sock"
    with listening(path):
        pass

    assert path.is_socket()
    assert not has_docker({"DOCKER_HOST": f"unix://{path}"})


def test_no_socket_file_is_no_engine(tmp_path: Path) -> None:
    """The usual case."""
    assert not has_docker({"DOCKER_HOST": f"unix://{tmp_path / 'docker.sock'}"})


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_whatever_else_listens_is_no_engine(answer: bytes) -> None:
    """A port may be anybody's."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            channel, _ = server.accept()
            with channel:
                channel.recv(1024)
                channel.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()

        assert not has_docker({"DOCKER_HOST": f"tcp://127.0.0.1:{server.getsockname()[1]}"})
        thread.join()


def test_the_broker_in_a_container_reaches_itself_by_a_listener_of_its_own() -> None:
    """The address that clients are sent to is the host's, which means nothing inside."""
    settings = container_settings(40001)

    assert "INSIDE" == settings["KAFKA_INTER_BROKER_LISTENER_NAME"]
    advertised = settings["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert ["PLAINTEXT://127.0.0.1:40001", "INSIDE://localhost:9094"] == advertised
