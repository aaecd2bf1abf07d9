"""The status client: an answer, or an error that says what was asked and why it failed."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from teacherd.daemon.errors import ExitCode, UnavailableError, UsageError
from teacherd.daemon.status_client import describe, fetch_history, fetch_status


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers as the paths say."""

    def do_GET(self) -> None:
        """Answer /ok with a status, /list and /junk with something else, /mute with nothing."""
        body = {
            "/ok/status": b'{"state": "ready"}',
            "/ok/history": b'{"tasks": []}',
            "/list/status": b"[]",
            "/junk/status": b"<html>",
        }.get(self.path)
        if self.path == "/mute/status":
            return
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    """Give the address of a server that is no daemon."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/ok", "/ok/"])
def test_the_answer_is_the_status(server: str, path: str) -> None:
    """A slash at the end of the address does no harm."""
    assert {"state": "ready"} == fetch_status(f"{server}{path}")


def test_the_history_is_asked_for_in_the_same_way(server: str) -> None:
    """It has an address of its own."""
    assert {"tasks": []} == fetch_history(f"{server}/ok")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/list", "no status"),
        ("/junk", "Expecting value"),
        ("/other", "Not Found"),
        ("/mute", "closed connection"),
    ],
)
def test_whoever_else_answers_is_no_daemon(server: str, path: str, reason: str) -> None:
    """Another service on the port is told from a daemon, without a traceback."""
    with pytest.raises(UnavailableError, match=reason) as caught:
        fetch_status(f"{server}{path}")

    assert ExitCode.UNAVAILABLE == caught.value.exit_code


def test_nobody_there_is_told_with_the_address() -> None:
    """Port 1 is nobody's."""
    with pytest.raises(UnavailableError, match=r"no daemon answers at http://127.0.0.1:1: .*ref"):
        fetch_status("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["127.0.0.1:9464", "file:///etc/passwd", ""])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    """No file is opened, however it is written."""
    with pytest.raises(UsageError, match="must begin with http"):
        fetch_status(url)


def test_a_status_is_worded_in_rows() -> None:
    """Sections become dotted names; numbers are short, what is empty is left out."""
    status = {
        "state": "ready",
        "headline": "All is well.",
        "problems": [{"about": "lag", "level": "warning", "says": "It lags.", "remedy": "Wait."}],
        "teacher": {"version": 3, "accuracy": {"old": 0.912345}, "reasons": ["a", "b"]},
        "intake": {"is_paused": False, "oldest_timestamp_ms": 1_000},
        "checkpoint": {"task": None, "figures": {}},
    }

    assert [
        ("state", "ready"),
        ("in short", "All is well."),
        ("warning", "It lags. Wait."),
        ("teacher.version", "3"),
        ("teacher.accuracy", "old 0.9123"),
        ("teacher.reasons", "a, b"),
        ("intake.is_paused", "no"),
        ("intake.oldest_timestamp_ms", "1970-01-01T00:00:01+00:00"),
    ] == describe(status)
