"""Two hosts on one machine: network namespaces joined by a pair of virtual Ethernet devices."""

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

FIRST, SECOND = "10.177.0.1", "10.177.0.2"
"""Their addresses."""


_IP = shutil.which("ip")


class NotPermittedError(Exception):
    """This process may not make namespaces; says why."""


class TwoHosts:
    """Makes the namespaces for a `with` block and takes them away after it.

    Raises:
        NotPermittedError: On entering, where that cannot be.
    """

    def __init__(self) -> None:
        self.names = (f"td{os.getpid()}a", f"td{os.getpid()}b")

    def __enter__(self) -> Self:
        if _IP is None:
            raise NotPermittedError("network namespaces need the program `ip` (iproute2)")
        first, second = self.names
        try:
            for name in self.names:
                _ip("netns", "add", name)
            _ip("link", "add", first, "type", "veth", "peer", "name", second)
            for name, address in zip(self.names, (FIRST, SECOND), strict=True):
                _ip("link", "set", name, "netns", name)
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", name, "up")
        except subprocess.CalledProcessError as error:
            self.close()
            raise NotPermittedError(
                f"network namespaces are not permitted here: {error.stderr.strip()}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the namespaces away, and with them the link."""
        for name in self.names:
            subprocess.run([str(_IP), "netns", "del", name], capture_output=True, check=False)


def cut(name: str) -> None:
    """Take the link of a host down: what is sent is lost, and nobody is told."""
    _ip("-n", name, "link", "set", name, "down")


def mend(name: str) -> None:
    """Bring the link of a host up again."""
    _ip("-n", name, "link", "set", name, "up")


def inside(name: str, *command: str) -> list[str]:
    """Return the command that runs another on a host."""
    return ["ip", "netns", "exec", name, *command]


def _ip(*arguments: str) -> None:
    subprocess.run([str(_IP), *arguments], capture_output=True, text=True, check=True)
