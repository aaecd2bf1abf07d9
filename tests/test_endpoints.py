"""The endpoints over real HTTP: what a scraper, a supervisor and a person are told."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families

from teacherd.daemon.endpoints import Endpoints, EndpointsConfig, bind, read_token
from teacherd.daemon.errors import ConfigurationError, ExitCode, TemporaryError
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView

IPV6_ADDRESSES = Path("/proc/net/if_inet6")


class Daemon:
    """What the endpoints look at."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.state = "starting"
        self.metrics = Metrics()
        self.board = StatusBoard(monotonic=lambda: self.seconds)
        self.port = 0

    @contextmanager
    def serve(self, config: EndpointsConfig) -> Iterator[Endpoints]:
        """Answer until the end of the block."""
        endpoints = Endpoints(
            config,
            metrics=self.metrics,
            board=self.board,
            readiness=lambda: self.state,
            view=StatusView(
                board=self.board,
                readiness=lambda: self.state,
                liveness_seconds=config.liveness_seconds,
                now=lambda: self.seconds,
            ),
        )
        self.port = endpoints.port
        try:
            yield endpoints
        finally:
            endpoints.close()

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Return status code and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (http, see above)
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Serve on a free port."""
    daemon = Daemon()
    with daemon.serve(EndpointsConfig(port=0, liveness_seconds=10)):
        yield daemon


def test_metrics_are_prometheus_text(daemon: Daemon) -> None:
    """A scrape shows the values of that moment."""
    daemon.metrics.teacher_version.set(4)

    code, body = daemon.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}

    assert 200 == code
    assert 4 == families["teacherd_teacher_version"].samples[0].value


def test_it_is_alive_while_every_loop_turns(daemon: Daemon) -> None:
    """One hung loop is enough for a restart, and the answer names it."""
    daemon.board.beat("intake")
    daemon.board.beat("learning")
    daemon.seconds = 9
    assert 200 == daemon.get("/livez")[0]

    daemon.board.beat("intake")
    daemon.seconds = 11
    code, body = daemon.get("/livez")

    assert 503 == code
    assert {"intake": 2, "learning": 11} == json.loads(body)["seconds_since_beat"]


def test_it_is_alive_before_the_loops_start(daemon: Daemon) -> None:
    """A long recovery must not be killed half way."""
    daemon.seconds = 1000

    assert 200 == daemon.get("/livez")[0]


@pytest.mark.parametrize(("state", "code"), [("starting", 503), ("ready", 200), ("stopping", 503)])
def test_it_is_ready_only_when_it_says_so(daemon: Daemon, state: str, code: int) -> None:
    """Neither before the start is complete nor while it ends."""
    daemon.state = state

    assert (code, {"state": state}) == (
        daemon.get("/readyz")[0],
        json.loads(daemon.get("/readyz")[1]),
    )


def test_the_status_is_everything_on_the_board(daemon: Daemon) -> None:
    """State first, the sections as they were written, and what follows from them."""
    daemon.state = "ready"
    daemon.board.update("teacher", version=3, reasons=["a"])

    code, body = daemon.get("/status")

    assert 200 == code
    answer = json.loads(body)
    assert ("state", "ready") == next(iter(answer.items()))
    assert {"version": 3, "reasons": ["a"]} == answer["teacher"]
    assert {"at_ms", "ages", "loops", "headline", "answers", "problems"} < set(answer)


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/status"])
def test_nothing_can_be_changed(daemon: Daemon, path: str) -> None:
    """Nobody is asked who he is, so nobody may do anything."""
    assert 405 == daemon.get(path, "POST")[0]
    assert 405 == daemon.get(path, "DELETE")[0]
    assert 404 == daemon.get("/other")[0]


def test_a_port_in_use_is_temporary(daemon: Daemon) -> None:
    """The error names the address and the ways out; a supervisor may try again."""
    with pytest.raises(TemporaryError, match=f"127.0.0.1:{daemon.port} cannot be bound") as caught:
        bind(EndpointsConfig(port=daemon.port))

    assert ExitCode.TEMPORARY == caught.value.exit_code


def test_a_bound_port_is_ours_before_anything_is_answered() -> None:
    """Two daemons that start at the same moment do not both believe that they have it."""
    with bind(EndpointsConfig(port=0)) as first:
        port = first.getsockname()[1]

        with pytest.raises(TemporaryError, match=str(port)):
            bind(EndpointsConfig(port=port))


def test_a_host_that_does_not_exist_is_a_wrong_configuration() -> None:
    """Trying again would not help."""
    with pytest.raises(ConfigurationError, match=r"endpoints\.host: no host:0 cannot be bound"):
        bind(EndpointsConfig(host="no host", port=0))


def test_an_address_that_is_not_up_is_temporary() -> None:
    """After boot an interface may come later than the daemon (192.0.2.1 is nobody's)."""
    with pytest.raises(TemporaryError, match=r"192\.0\.2\.1:0"):
        bind(EndpointsConfig(host="192.0.2.1", port=0))


@pytest.mark.skipif(
    not IPV6_ADDRESSES.exists() or not IPV6_ADDRESSES.read_text(),
    reason="needs IPv6, which the kernel lacks here: enable it",
)
def test_an_ipv6_address_is_understood() -> None:
    """Loopback has two of them."""
    with bind(EndpointsConfig(host="::1", port=0)) as bound:
        assert socket.AF_INET6 == bound.family


def test_after_close_the_port_is_free_and_the_thread_is_gone() -> None:
    """A restart can take it at once."""
    daemon = Daemon()
    with daemon.serve(EndpointsConfig(port=free_port())) as endpoints:
        assert endpoints.is_alive
        assert 200 == daemon.get("/livez")[0]

    assert not endpoints.is_alive
    bind(EndpointsConfig(port=daemon.port)).close()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"port": -1}, "port: -1: must be from 0 to 65535"),
        ({"port": 65536}, "port: 65536: must be"),
        ({"liveness_seconds": 0}, "liveness_seconds: 0: must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, int], reason: str) -> None:
    """Field, value, rule and fix."""
    with pytest.raises(ValueError, match=reason):
        EndpointsConfig(**values)  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "teacher.example"])  # noqa: S104
def test_beyond_loopback_nobody_teaches_without_a_token(host: str) -> None:
    """The error names key, rule and fix; with a token, or on loopback, all is well."""
    with pytest.raises(ValueError, match=r"^token_file: null: must be set .* 127\.0\.0\.1$"):
        EndpointsConfig(host=host, accept_instances=True)

    path = "token"

    assert EndpointsConfig(host=host, accept_instances=True, token_file=path).accept_instances
    for loopback in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert EndpointsConfig(host=loopback, accept_instances=True).accept_instances


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"token": "a", "token_file": "b"}, "token: is set beside token_file"),
        ({"token": " "}, "token: '': must not be empty"),
        ({"max_request_bytes": 0}, "max_request_bytes: 0: must be above 0"),
        ({"max_requests_per_second": 0}, "max_requests_per_second: 0: must be above 0; take 500"),
        (
            {"admin_token_file": "a", "token_file": "a"},
            "admin_token_file: a: is token_file, too; take another",
        ),
    ],
)
def test_a_setting_of_posting_that_cannot_be_is_refused(
    settings: dict[str, object], rule: str
) -> None:
    """Named, with its fix."""
    with pytest.raises(ValueError, match=f"^{rule}"):
        EndpointsConfig(**settings)


def test_beyond_loopback_the_admin_token_needs_https() -> None:
    """Who listens on the way could decide what is served from then on."""
    with pytest.raises(ValueError, match=r"^admin_token_file: a: .* set certificate_file"):
        EndpointsConfig(host="192.0.2.1", admin_token_file="a")  # noqa: S106 (a file's name)

    assert EndpointsConfig(admin_token_file="a").admin_token_file  # noqa: S106
    assert EndpointsConfig(host="192.0.2.1", certificate_file="c", admin_token_file="a")  # noqa: S106


def test_too_many_requests_are_told_to_come_again() -> None:
    """Over all clients together; supervisors are answered all the same."""
    daemon = Daemon()
    # One now, and the next in a quarter of an hour.
    with daemon.serve(EndpointsConfig(port=0, max_requests_per_second=0.001)):
        codes = [daemon.get("/status")[0] for _ in range(3)]

        assert 200 == daemon.get("/livez")[0]
        assert 200 == daemon.get("/metrics")[0]

    assert [200, 429, 429] == codes


def test_no_client_can_send_headers_without_end(daemon: Daemon) -> None:
    """The daemon's connections are guarded: tests/test_guarded_protocol.py."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=300) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
        with pytest.raises(ConnectionError):
            connection.sendall(b"a" * (64 << 20))

    assert 200 == daemon.get("/livez")[0]


def test_the_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    """Without spaces around it; a file that holds none is told by its key."""
    path = tmp_path / "token"
    path.write_text("  t0ken \nmore\n", encoding="utf-8")

    assert "t0ken" == read_token(EndpointsConfig(token_file=str(path)))
    assert "token" == read_token(EndpointsConfig(token=path.name))
    assert read_token(EndpointsConfig()) is None

    for content in ("", "\nsecond"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"endpoints\.token_file: .* first line"):
            read_token(EndpointsConfig(token_file=str(path)))
    with pytest.raises(ConfigurationError, match=r"endpoints\.token_file: .*No such file"):
        read_token(EndpointsConfig(token_file=str(tmp_path / "none")))
