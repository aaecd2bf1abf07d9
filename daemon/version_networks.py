"""Networks of the versions that candidates and holdouts are measured against."""

from collections.abc import Callable

from torch import nn

from teacherd.daemon.lineage import Lineage
from teacherd.models.artifact import LoadedTeacher


class VersionNetworks:
    """Owns those that are compared with, each loaded once; the head's is the learner's.

    Args:
        lineage: Says which version is the head, and which ones are compared with.
        load_version: Gives a version that the lineage pins.
        head: Gives the network that the next task starts from.
    """

    def __init__(
        self,
        lineage: Lineage,
        *,
        load_version: Callable[[int], LoadedTeacher],
        head: Callable[[], nn.Module],
    ) -> None:
        self._lineage = lineage
        self._load_version = load_version
        self._head = head
        self._networks: dict[int, nn.Module] = {}

    @property
    def compared(self) -> set[int]:
        """Versions that the next candidate is compared with, and the head."""
        standing = self._lineage.standing
        compared = {self._lineage.head, self._lineage.current or 0, standing.best}
        if standing.probation is not None:
            compared.add(standing.probation.predecessor)
        return compared

    def of(self, version: int) -> nn.Module:
        """Return a version's network, on the device; it is not to be changed."""
        if version == self._lineage.head:
            return self._head()
        if version not in self._networks:
            self._networks[version] = self._load_version(version).network
        return self._networks[version]

    def put(self, version: int, network: nn.Module) -> None:
        """Take in the network of a version that ceases to be the head."""
        self._networks[version] = network

    def forget(self) -> None:
        """Let go of those that nothing will be compared with."""
        kept = self.compared - {self._lineage.head}
        self._networks = {
            version: network for version, network in self._networks.items() if version in kept
        }
