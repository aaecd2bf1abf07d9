"""POST /v1/commands over a real socket: only with its token, answered by the learning thread."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from teacherd.daemon.bearer_token import BearerToken
from teacherd.daemon.commands import Answer, Commands, Verb
from teacherd.daemon.commands_endpoint import PATH, CommandsEndpoint
from teacherd.daemon.endpoints import Endpoints, EndpointsConfig
from teacherd.daemon.errors import ExitCode, StateError, TeacherdError, UsageError
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView

TOKEN = "correct-horse"  # noqa: S105 (of a test)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Handler = Callable[[int | None], Answer]


class Daemon:
    """The endpoint, and a thread that obeys as the learning thread does, once it is let."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.state = "ready"
        self.handler: Handler = lambda number: {"version": 8, "to": number}
        self.commands = Commands()
        self.failed: list[TeacherdError] = []
        board = StatusBoard(monotonic=lambda: 0.0)
        endpoint = CommandsEndpoint(
            self.commands,
            token=BearerToken(TOKEN),
            readiness=lambda: self.state,
            stop=self.stop,
        )
        self._endpoints = Endpoints(
            EndpointsConfig(port=0),
            metrics=Metrics(),
            board=board,
            readiness=lambda: self.state,
            view=StatusView(
                board=board,
                readiness=lambda: self.state,
                liveness_seconds=10.0,
                now=lambda: 0.0,
            ),
            routes=endpoint.routes(),
        )
        self.port = self._endpoints.port
        self.url = f"http://127.0.0.1:{self.port}{PATH}"
        self.may_obey = threading.Event()
        self.may_obey.set()
        self._thread = threading.Thread(target=self._obey)
        self._thread.start()

    @property
    def connections(self) -> set[Any]:
        """Those that it holds."""
        return self._endpoints._server.server_state.connections

    def _obey(self) -> None:
        verbs: tuple[Verb, ...] = ("promote", "rollback", "retry")
        while not self.stop.wait(0.01):
            try:
                if self.may_obey.is_set():
                    self.commands.obey(dict.fromkeys(verbs, self.handler))
            except TeacherdError as error:
                self.failed.append(error)

    def post(self, timeout: float = 300, **request: object) -> httpx.Response:
        """Ask for a rollback, or for what is said."""
        asked = {"headers": BEARER, "json": {"verb": "rollback", "number": 3}, **request}
        return httpx.post(self.url, timeout=timeout, **asked)  # type: ignore[arg-type]

    def close(self) -> None:
        """End both."""
        self.stop.set()
        self._thread.join()
        self._endpoints.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Give a daemon that is ready."""
    daemon = Daemon()
    yield daemon
    daemon.close()


def test_who_shows_the_token_is_obeyed(daemon: Daemon) -> None:
    """The answer is the learning thread's."""
    answer = daemon.post()

    assert (200, {"answer": {"version": 8, "to": 3}}) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": TOKEN}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}],
)
def test_nobody_else_is(daemon: Daemon, headers: dict[str, str]) -> None:
    """The answer names the setting, not the token; nothing was asked."""
    daemon.may_obey.clear()
    answer = daemon.post(headers=headers)

    assert 401 == answer.status_code
    assert "endpoints.admin_token_file" in answer.text
    assert TOKEN not in answer.text
    assert daemon.commands._waiting.empty()


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"verb": "shutdown", "number": None}},
        {"json": {"verb": "rollback", "number": "3"}},
        {"json": {"verb": "rollback", "number": True}},
        {"json": ["rollback"]},
        {"json": None, "content": b"\xff"},
        {"json": None, "content": b"[" * 4000},
        {"json": {"verb": "rollback", "number": 3, "more": "x" * 5000}},
    ],
)
def test_what_is_no_command_is_refused(daemon: Daemon, request_: dict[str, object]) -> None:
    """In words, and without asking anybody."""
    answer = daemon.post(**request_)

    assert 400 == answer.status_code
    assert "command" == answer.json()["errors"][0]["key"]
    assert 405 == httpx.get(daemon.url, headers=BEARER).status_code


def test_a_refusal_and_a_failure_are_told(daemon: Daemon) -> None:
    """With the exit code that the verb would have ended with."""

    def refuse(_: int | None) -> Answer:
        raise UsageError("there is no version 3")

    def fail(_: int | None) -> Answer:
        raise StateError(Path("lineage.log"), "no space")

    daemon.handler = refuse
    refused = daemon.post()
    daemon.handler = fail
    failed = daemon.post()

    assert (409, int(ExitCode.USAGE)) == (refused.status_code, refused.json()["exit_code"])
    assert "no version 3" in refused.text
    assert (500, int(ExitCode.STATE)) == (failed.status_code, failed.json()["exit_code"])
    assert 1 == len(daemon.failed)


@pytest.mark.parametrize("state", ["starting", "standby", "stopping"])
def test_only_a_daemon_that_learns_takes_commands(daemon: Daemon, state: str) -> None:
    """Else nobody would answer."""
    daemon.state = state

    assert 503 == daemon.post().status_code


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_a_client_that_goes_away_cancels_nothing(daemon: Daemon) -> None:
    """The command is carried out, and the thread that did so goes on."""
    done: list[int | None] = []

    def note(number: int | None) -> Answer:
        done.append(number)
        return {}

    daemon.handler = note
    daemon.may_obey.clear()
    body = b'{"verb": "rollback", "number": 3}'
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        wait_until(lambda: not daemon.commands._waiting.empty())
    wait_until(lambda: not daemon.connections)
    daemon.may_obey.set()

    assert 200 == daemon.post().status_code
    assert [3, 3] == done


def test_an_end_is_told_to_who_waits(daemon: Daemon) -> None:
    """No client waits for a daemon that has gone."""
    daemon.may_obey.clear()
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(daemon.post()))
    asking.start()
    wait_until(lambda: not daemon.commands._waiting.empty())
    daemon.stop.set()
    asking.join()

    assert [503] == [each.status_code for each in answers]
    assert "ending" in answers[0].text
