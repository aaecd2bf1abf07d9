"""A producer that appends to the partitions of a topic in turn, until told to stop."""

import itertools
import threading
from types import TracebackType
from typing import Self

from kafka import KafkaProducer
from kafka_daemon import feature_values

_BATCH = 10
_PAUSE_SECONDS = 1.0


class PouringTopic:
    """Appends from a thread of its own, inside a `with` block; keeps what offsets it was given."""

    def __init__(self, bootstrap: str, topic: str, *, num_partitions: int) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._pour, name="pouring")
        self.offsets: dict[int, list[int]] = {number: [] for number in range(num_partitions)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close()

    def _pour(self) -> None:
        for seed, number in enumerate(itertools.cycle(self.offsets)):
            sent = [
                self._producer.send(
                    self._topic,
                    value=record.value,
                    headers=list(record.headers),
                    partition=number,
                )
                for record in feature_values(_BATCH, seed=seed)
            ]
            self.offsets[number] += [each.get(300).offset for each in sent]
            if self._stop.wait(_PAUSE_SECONDS):
                return
