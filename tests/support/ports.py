"""TCP ports for programs that are told which to take, and take it later."""

import os
import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
_FIRST = 10_000
_FEWEST = 2000
_GIVEN_BY_THE_SYSTEM = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_FIRST_GIVEN = 32_768
_given: set[int] = set()


def free_port(wanted: int = 0) -> int:
    """Return a port that nobody listens on now: the wanted one, if that is so.

    It still is free when it is taken seconds later, or again after a restart: the system gives it
    to nobody who asks for any port, tests that run side by side have none in common, and none is
    returned twice.
    """
    if wanted and _is_free(wanted):
        return wanted
    while True:
        port = random.SystemRandom().choice(_ours())
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _ours() -> range:
    """Return the ports of this process's tests."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    step = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(_FIRST + int(worker), max(_first_given(), _FIRST + _FEWEST), step)


def _first_given() -> int:
    """Return the first port that the system gives to whoever asks for any."""
    try:
        return int(_GIVEN_BY_THE_SYSTEM.read_text(encoding="ascii").split()[0])
    except OSError:
        return _USUAL_FIRST_GIVEN


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
