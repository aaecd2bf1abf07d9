"""Tells a topic from another one that was made under its name later."""

import threading
from collections.abc import Iterable
from typing import Any

from teacherd.consumers.record import Partition

_ANSWER_SECONDS = 2.0


class KafkaIdentity:
    """Follows the id that a cluster gives a topic when it is made (since Kafka 2.8).

    The client renews its picture of the cluster by itself; what it says may be that old.

    Args:
        topic: Name.
    """

    def __init__(self, consumer: Any, topic: str) -> None:  # noqa: ANN401 (kafka-python has no types)
        self._consumer = consumer
        self._topic = topic
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
        has_answer = threading.Event()
        answer = self._consumer._cluster.request_update()  # noqa: SLF001 (as above)
        answer.add_both(lambda _: has_answer.set())
        has_answer.wait(_ANSWER_SECONDS)
