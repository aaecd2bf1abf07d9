"""Appends records to a topic at a rate, as a process of its own that benchmarks start.

It reads one number a line from stdin, the rate in records a second from now on, and answers each
with the number of records that brokers have acknowledged so far. Sends with confluent-kafka where
that is installed: it takes a tenth of the processor's time, and the consumer is what is measured.

    python benchmarks/offering.py BOOTSTRAP TOPIC
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord

SHAPE = (3, 32, 32)
TICK_SECONDS = 0.01
NUM_DIFFERENT = 200


class Sender(Protocol):
    """A client that tells when a record is acknowledged."""

    def send(self, record: NewRecord) -> None:
        """Send a record; wait while too many are on their way."""

    def wait(self, seconds: float) -> None:
        """Let acknowledgements come in."""


def main(bootstrap: str, topic: str) -> None:
    """Produce until stdin ends."""
    offering = Offering(bootstrap, topic)
    thread = threading.Thread(target=offering.run)
    thread.start()
    for line in sys.stdin:
        offering.rate = float(line)
        print(offering.num_acknowledged, flush=True)
    offering.is_over = True
    thread.join()


class Offering:
    """Keeps to a rate; what could not be sent in half a second is not made up for."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (NUM_DIFFERENT, *SHAPE), dtype=np.uint8)
        self._records = [
            build_record(encode_npy(image), content_type=NPY, label=place % 10)
            for place, image in enumerate(images)
        ]
        self._sender = make_sender(bootstrap, topic, self._acknowledge)
        self.rate = 0.0
        self.num_acknowledged = 0
        self.is_over = False

    def run(self) -> None:
        """Send until it is over."""
        owed, num_sent, last = 0.0, 0, time.monotonic()
        while not self.is_over:
            now = time.monotonic()
            owed = min(owed + self.rate * (now - last), self.rate * 0.5)
            last = now
            for _ in range(int(owed)):
                self._sender.send(self._records[num_sent % NUM_DIFFERENT])
                num_sent += 1
            owed -= int(owed)
            self._sender.wait(TICK_SECONDS)

    def _acknowledge(self) -> None:
        self.num_acknowledged += 1


def make_sender(bootstrap: str, topic: str, acknowledge: Callable[[], None]) -> Sender:
    """Return the lighter of the two clients that is there."""
    try:
        import confluent_kafka  # noqa: F401, PLC0415 (optional)
    except ImportError:
        return PlainSender(bootstrap, topic, acknowledge)
    return ConfluentSender(bootstrap, topic, acknowledge)


class ConfluentSender:
    """confluent-kafka, a C library under a thin layer."""

    def __init__(self, bootstrap: str, topic: str, acknowledge: Callable[[], None]) -> None:
        from confluent_kafka import Producer  # noqa: PLC0415 (optional)

        self._topic = topic
        self._acknowledge = acknowledge
        options = {"linger.ms": 20, "batch.size": 1 << 20, "acks": "all"}
        self._producer = Producer({"bootstrap.servers": bootstrap, **options})

    def send(self, record: NewRecord) -> None:
        """Send a record; wait while too many are on their way."""
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    record.value,
                    headers=list(record.headers),
                    partition=0,
                    on_delivery=self._delivered,
                )
            except BufferError:
                self._producer.poll(TICK_SECONDS)
            else:
                return

    def wait(self, seconds: float) -> None:
        """Let acknowledgements come in."""
        self._producer.poll(seconds)
        time.sleep(seconds)

    def _delivered(self, error: object, _: object) -> None:
        if error is None:
            self._acknowledge()


class PlainSender:
    """kafka-python."""

    def __init__(self, bootstrap: str, topic: str, acknowledge: Callable[[], None]) -> None:
        from kafka import KafkaProducer  # noqa: PLC0415 (only where the other is not there)

        self._topic = topic
        self._acknowledge = acknowledge
        options = {"linger_ms": 20, "batch_size": 1 << 18, "acks": "all"}
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, **options)

    def send(self, record: NewRecord) -> None:
        """Send a record; wait while too many are on their way."""
        headers = list(record.headers)
        sent = self._producer.send(self._topic, value=record.value, headers=headers, partition=0)
        sent.add_callback(lambda _: self._acknowledge())

    def wait(self, seconds: float) -> None:
        """Let acknowledgements come in."""
        time.sleep(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
