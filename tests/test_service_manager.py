"""What systemd is told: over a real datagram socket, and by a real daemon from start to end."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from assemblies import feature_records, make_bench
from daemon_process import DaemonProcess

from teacherd.daemon.errors import TemporaryError
from teacherd.daemon.service_manager import ServiceManager


class Listener:
    """The other end: collects what is sent to it."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.2)
        self.heard: list[str] = []

    def take(self) -> list[str]:
        """Return the lines that have come since the last call."""
        start = len(self.heard)
        try:
            while True:
                self.heard += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return self.heard[start:]

    def fill(self) -> None:
        """Have so much to read that the system takes no more for us."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
            other.settimeout(0)
            while True:
                other.sendto(b"OTHER=1", self._socket.getsockname())

    def close(self) -> None:
        """Be gone, as a manager that is replaced."""
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Listen where this process and its children are told to report."""
    address = str(tmp_path / "notify")
    listener = Listener(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield listener
    listener.close()


class Clock:
    """Seconds that a test turns."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Return them."""
        return self.seconds


def make_manager(clock: Clock, **environment: str) -> ServiceManager:
    """Return a manager as the environment of this process and some variables say."""
    return ServiceManager.from_environment({**os.environ, **environment}, monotonic=clock)


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal or a container everything may be told, and nobody hears it."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    manager = make_manager(Clock())
    manager.ready()
    manager.give_sign_of_life()

    manager.close()


def test_what_is_told_is_what_sd_notify_says(listener: Listener) -> None:
    """One datagram for each call; a reload carries the time at which it began."""
    manager = make_manager(Clock())
    manager.ready()
    manager.reloading()
    manager.stopping()
    manager.tell("well")
    manager.tell("well")

    assert [
        "READY=1",
        "RELOADING=1",
        "MONOTONIC_USEC=100000000",
        "STOPPING=1",
        "STATUS=well",
    ] == listener.take()
    manager.close()


def test_an_abstract_address_is_understood() -> None:
    """Its first character stands for the zero byte that environments cannot hold."""
    address = f"@teacherd-test-{os.getpid()}"
    listener = Listener(address)
    manager = make_manager(Clock(), NOTIFY_SOCKET=address)
    manager.ready()

    assert ["READY=1"] == listener.take()
    manager.close()
    listener.close()


def test_signs_of_life_come_three_times_in_an_interval(listener: Listener) -> None:
    """However often the loop turns: the manager has others to listen to."""
    clock = Clock()
    manager = make_manager(clock, WATCHDOG_USEC="30000000")
    manager.ready()
    for _ in range(300):
        manager.give_sign_of_life()
        clock.seconds += 0.1

    assert ["READY=1"] + ["WATCHDOG=1"] * 3 == listener.take()
    manager.close()


def test_a_start_gives_no_sign_of_life(listener: Listener) -> None:
    """The first one sets the watchdog off, and what comes next may be the import of a compiler."""
    manager = make_manager(Clock(), WATCHDOG_USEC="30000000")
    manager.give_sign_of_life()

    assert [] == listener.take()
    manager.close()


def test_another_process_is_watched_not_this_one(listener: Listener) -> None:
    """WATCHDOG_PID is inherited by children, who must not answer for their parent."""
    manager = make_manager(Clock(), WATCHDOG_USEC="30000000", WATCHDOG_PID="1")
    manager.ready()
    manager.give_sign_of_life()

    assert ["READY=1"] == listener.take()
    manager.close()


def test_a_start_is_extended_until_it_is_over(listener: Listener) -> None:
    """In thirds of the time asked for; a daemon that runs asks no more."""
    clock = Clock()
    manager = make_manager(clock)
    for _ in range(70):
        manager.extend_start(120.0)
        clock.seconds += 1.0
    manager.ready()
    manager.extend_start(120.0)

    assert ["EXTEND_TIMEOUT_USEC=120000000"] * 2 + ["READY=1"] == listener.take()
    manager.close()


def test_a_manager_that_went_away_is_no_reason_to_stop(listener: Listener) -> None:
    """It may be back at the next turn; what it missed is told again."""
    manager = make_manager(Clock(), WATCHDOG_USEC="30000000")
    listener.close()
    manager.tell("well")
    manager.give_sign_of_life()

    manager.close()


def test_a_manager_that_is_busy_is_told_later_that_we_are_ready(listener: Listener) -> None:
    """Else a start that succeeded would be killed as one that hangs, or a reload never end."""
    manager = make_manager(Clock())
    listener.fill()
    manager.ready()
    manager.tell("well")
    manager.give_sign_of_life()
    listener.take()
    manager.tell("well")

    assert ["READY=1", "STATUS=well"] == listener.take()

    listener.fill()
    manager.reloading()
    manager.ready()
    listener.take()
    manager.give_sign_of_life()

    assert ["RELOADING=1", "MONOTONIC_USEC=100000000", "READY=1"] == listener.take()
    manager.close()


def test_a_manager_that_never_was_is_told(tmp_path: Path) -> None:
    """A variable that was left over in somebody's shell: by name, with what to do."""
    with pytest.raises(TemporaryError, match=r"NOTIFY_SOCKET=.*nowhere: .*unset it"):
        make_manager(Clock(), NOTIFY_SOCKET=str(tmp_path / "nowhere"))


def test_a_daemon_tells_its_life_in_order(listener: Listener, tmp_path: Path) -> None:
    """Ready once it learns, a reload between its two marks, stopping at the end."""
    bench = make_bench(tmp_path, endpoints={"port": 0}, logging={"format": "json"})
    bench.append(feature_records(30))
    daemon = DaemonProcess(tmp_path, bench.settings)
    daemon.spawn()
    try:
        daemon.wait_until(lambda: "READY=1" in listener.take())
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: "RELOADING=1" in listener.take())
        daemon.stop()
    finally:
        daemon.close()
    listener.take()

    told = [each.split("=")[0] for each in listener.heard]
    assert ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"] == [
        name for name in told if name not in ("STATUS", "EXTEND_TIMEOUT_USEC", "WATCHDOG")
    ]
    assert any(each.startswith("STATUS=Version") for each in listener.heard)
