"""Tells a topic from another one that was made under its name later."""

from collections.abc import Callable, Iterable
from typing import Any

from teacherd.consumers.record import Partition

_ANSWERS = 200
_ANSWER_SECONDS = 0.01


class KafkaIdentity:
    """Follows the id that a cluster gives a topic when it is made (since Kafka 2.8).

    The client renews its picture of the cluster by itself; what it says may be that old.

    Args:
        topic: Name.
        sleep: Waits for so many seconds.
    """

    def __init__(self, consumer: Any, topic: str, *, sleep: Callable[[float], None]) -> None:  # noqa: ANN401 (kafka-python has no types)
        self._consumer = consumer
        self._topic = topic
        self._sleep = sleep
        self._believed: dict[Partition, str] = {}

    def use(self, consumer: Any) -> None:  # noqa: ANN401 (as above)
        """Go on with a new client."""
        self._consumer = consumer

    @property
    def current(self) -> str | None:
        """Return the id; None from older brokers, and while there is no topic."""
        found = self._consumer._cluster.topic_id(self._topic)  # noqa: SLF001 (public nowhere else)
        return str(found) if found else None

    def find_replaced(self, partitions: Iterable[Partition]) -> Partition | None:
        """Return one of the partitions that is another topic's than when it was first asked for."""
        current = self.current
        if current is None:
            return None
        for partition in partitions:
            if self._believed.setdefault(partition, current) != current:
                return partition
        return None

    def accept(self, partition: Partition) -> str | None:
        """Take a partition for what it is now, and return the id of its topic."""
        current = self.current
        if current is not None:
            self._believed[partition] = current
        return current

    @property
    def is_doubtful(self) -> bool:
        """Whether the client has reason to ask the cluster again and has not had the answer."""
        cluster = self._consumer._cluster  # noqa: SLF001 (as above)
        return bool(cluster.need_update or cluster.ttl() == 0)

    def refresh(self) -> None:
        """Have the client ask the cluster now; give up waiting where nobody answers."""
        answer = self._consumer._cluster.request_update()  # noqa: SLF001 (as above)
        for _ in range(_ANSWERS):
            if answer.is_done:
                return
            self._sleep(_ANSWER_SECONDS)
