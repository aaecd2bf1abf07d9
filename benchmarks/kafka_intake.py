"""How fast do records come from a real Kafka, alone and while the learner trains?

Four loops read the same topic of one partition, in turn: bare kafka-python with the options that
ours has, but nothing else of ours (poll, count), ours up to the buffer (KafkaSource.poll and
positions, which is what the intake thread does besides decoding), ours up to a task's tensors
(decoded, digested, buffered, cut) and, where it is installed, bare confluent-kafka (consume,
count). Values are .npy arrays of uint8:
3x32x32 (3 KB) and 3x224x224 (150 KB). Then ours up to tensors once more while a learner trains in
the same process, as it does in the daemon.

    ratio_to_bare_poll_3kb, _150kb        ours up to the buffer / bare kafka-python
    task_ratio_to_bare_poll_3kb, _150kb   ours up to tensors / bare kafka-python
    SIZE_LOOP_records_per_second          of each loop; LOOP task_training: while it trains

Last, the highest rate that a producer may offer (3 KB) without the lag growing, found by halving:
each rate is offered for seconds to the loop up to tensors, with the learner training and without,
in turn, three times. The learner's thread has the niceness that the daemon gives it.

    sustained_records_per_second, sustained_training_records_per_second
    sustained_ratio_while_training        of the two
    broker_share, producer_share, ours_share   of all cores, at the highest rate while it trains

The broker is the one that the tests start (Java, on this machine).
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from offering import SHAPE as OFFERED_SHAPE
from report import ROOT, Report, parse_arguments, progress

sys.path.insert(0, str(ROOT / "tests" / "support"))  # the broker that the tests start
from kafka import KafkaConsumer, TopicPartition
from kafka_broker import KafkaCluster
from kafka_service import KafkaService

from teacherd.consumers.decoding import NPY, Decoder, DecodingConfig
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_reader import consumer_options
from teacherd.consumers.kafka_source import KafkaSource
from teacherd.consumers.producing import build_record, encode_npy
from teacherd.consumers.record import Partition
from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.daemon.config import ProcessConfig
from teacherd.daemon.niceness import give_way
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.small_networks import SmallCnn
from teacherd.models.task import Schedule, Task

CLASSES = tuple("0123456789")
POLL_RECORDS = 256
TASK_INSTANCES = 2000
NUM_DIFFERENT = 100
PRODUCED_BYTES = 8 << 20
BROKER_SETTINGS = {"log.retention.check.interval.ms": "2000"}
STREAM_SETTINGS = {"retention.bytes": str(1 << 30), "segment.bytes": str(64 << 20)}
FIRST_RATE = 8000.0
LAG_SHARE = 0.05
"""Of what is offered, the lag may grow by in a trial: a fetch or two that are on their way."""
OFFERED_SHARE = 0.9
"""A producer that comes up with less was the limit itself."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A topic, and what is in it."""

    name: str
    shape: tuple[int, ...]
    topic: str
    num_records: int


def main() -> None:
    """Measure both sizes and the sustained rate, and report."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("kafka_intake", arguments)
    quick = arguments.quick
    device = torch.device(arguments.device)
    with tempfile.TemporaryDirectory() as directory:
        cluster = KafkaCluster(Path(directory), settings=BROKER_SETTINGS)
        try:
            service = KafkaService(cluster.start().bootstrap, cluster)
            for name, shape, count in (
                ("3kb", (3, 32, 32), 120_000),
                ("150kb", (3, 224, 224), 2000),
            ):
                num_records = count // 10 if quick else count
                subject = fill(service, name, shape, num_records)
                measure(report, service.bootstrap, subject, device, repetitions=2 if quick else 7)
            broker = psutil.Process(cluster.nodes[0].process.pid)
            sustained(report, service, broker, device, quick=quick)
        finally:
            cluster.close()
    report.close()


def fill(service: KafkaService, name: str, shape: tuple[int, ...], num_records: int) -> Subject:
    """Make a topic of seeded images."""
    progress(f"{num_records} records of {name}")
    topic = service.create_topic()
    images = np.random.default_rng(0).integers(0, 256, (NUM_DIFFERENT, *shape), dtype=np.uint8)
    records = [
        build_record(encode_npy(image), content_type=NPY, label=place % 10)
        for place, image in enumerate(images)
    ]
    # Not too many in one go: none is let go of before all are acknowledged.
    most = PRODUCED_BYTES // sum(len(each.value) for each in records) or 1
    left = num_records // NUM_DIFFERENT
    while left:
        copies = min(most, left)
        service.produce(topic, records * copies, linger_ms=20, batch_size=1 << 20)
        left -= copies
    return Subject(name, shape, topic, num_records)


def measure(
    report: Report, bootstrap: str, subject: Subject, device: torch.device, *, repetitions: int
) -> None:
    """Report the rates of one size, all loops in turn."""
    config = KafkaConfig(bootstrap_servers=bootstrap, topic=subject.topic, group=subject.topic)
    loops: dict[str, Callable[[], float]] = {
        "bare": lambda: bare_kafka_python(config, subject),
        "buffer": lambda: up_to_buffer(config, subject),
        "task": lambda: up_to_task(config, subject),
    }
    if has_confluent():
        loops["confluent"] = lambda: bare_confluent(config, subject)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for repetition in range(repetitions + 1):
        for name, loop in loops.items():
            rate = loop()
            progress(f"{subject.name} {name}: {rate:.0f} records a second")
            if repetition > 0:  # the first one warms up
                rates[name].append(rate)
    with training(device):
        rates["task_training"] = [up_to_task(config, subject) for _ in range(repetitions)]
    report.add_ratio(f"ratio_to_bare_poll_{subject.name}", rates["buffer"], rates["bare"])
    report.add_ratio(f"task_ratio_to_bare_poll_{subject.name}", rates["task"], rates["bare"])
    for name, samples in rates.items():
        report.add(f"{subject.name}_{name}_records_per_second", samples)


def bare_kafka_python(config: KafkaConfig, subject: Subject) -> float:
    """Poll and count."""
    consumer = KafkaConsumer(**consumer_options(config), group_id=None)
    partition = TopicPartition(subject.topic, 0)
    consumer.assign([partition])
    consumer.seek(
        partition, consumer.beginning_offsets([partition])[partition]
    )  # connects, as ours
    num_read, started = 0, time.perf_counter()
    while num_read < subject.num_records:
        for records in consumer.poll(500, max_records=POLL_RECORDS).values():
            num_read += len(records)
    seconds = time.perf_counter() - started
    consumer.close()
    return num_read / seconds


def bare_confluent(config: KafkaConfig, subject: Subject) -> float:
    """Consume and count."""
    from confluent_kafka import Consumer  # noqa: PLC0415 (optional)
    from confluent_kafka import TopicPartition as Assigned  # noqa: PLC0415 (optional)

    consumer = Consumer(
        {
            "bootstrap.servers": config.bootstrap_servers,
            "group.id": "confluent",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "check.crcs": True,
            "max.partition.fetch.bytes": 8 << 20,
        }
    )
    consumer.get_watermark_offsets(Assigned(subject.topic, 0), timeout=10)  # connects, as ours
    consumer.assign([Assigned(subject.topic, 0, 0)])
    num_read, started = 0, time.perf_counter()
    while num_read < subject.num_records:
        num_read += len(consumer.consume(POLL_RECORDS, 0.5))
    seconds = time.perf_counter() - started
    consumer.close()
    return num_read / seconds


def has_confluent() -> bool:
    """Tell whether confluent-kafka is installed."""
    try:
        import confluent_kafka  # noqa: F401, PLC0415 (optional)
    except ImportError:
        progress("confluent-kafka is not installed: pip install confluent-kafka")
        return False
    return True


def up_to_buffer(config: KafkaConfig, subject: Subject) -> float:
    """Do what the intake thread does, without decoding."""
    source = open_source(config)
    num_read, started = 0, time.perf_counter()
    while num_read < subject.num_records:
        batch = source.poll(POLL_RECORDS, 0.5)
        source.positions()
        num_read += 0 if batch is None else len(batch)
    seconds = time.perf_counter() - started
    source.close()
    return num_read / seconds


def up_to_task(config: KafkaConfig, subject: Subject) -> float:
    """Do all that the intake thread does, and cut one task."""
    source = open_source(config)
    decoder = Decoder(DecodingConfig(), input_shape=subject.shape, classes=CLASSES)
    limits = TaskBufferConfig(instances=subject.num_records, max_records=subject.num_records)
    buffer = TaskBuffer(limits, now=time.monotonic)
    started = time.perf_counter()
    while buffer.num_records < subject.num_records:
        batch = source.poll(POLL_RECORDS, 0.5)
        if batch is not None:
            buffer.append(batch, decoder.decode_batch(batch), source.positions())
    task = buffer.cut("drain")
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    seconds = time.perf_counter() - started
    assert len(inputs) == len(labels) == subject.num_records, "not all became instances"
    for each in (source, decoder, buffer):
        each.close()
    return subject.num_records / seconds


def open_source(config: KafkaConfig) -> KafkaSource:
    """Open ours at the beginning."""
    source = KafkaSource(config, lineage="benchmark")
    source.seek({Partition(config.topic, 0): 0})
    return source


@contextmanager
def training(device: torch.device) -> Iterator[None]:
    """Let a learner make steps in a thread until the end of the block."""
    rng = np.random.default_rng(0)
    task = Task(
        number=1,
        inputs=rng.integers(0, 256, (TASK_INSTANCES, *OFFERED_SHAPE), dtype=np.uint8),
        labels=rng.integers(0, len(CLASSES), TASK_INSTANCES),
    )
    learner = Learner(
        LearnerConfig(),
        teacher=SmallCnn(input_shape=OFFERED_SHAPE, num_classes=len(CLASSES)),
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, scale=1 / 255),
        sigma=0.25,
        device=device,
    )
    learner.begin(task, Schedule(seed=0, epochs=10**6, learning_rate=0.001))
    stop = threading.Event()

    def learn() -> None:
        give_way(ProcessConfig().learning_niceness)
        while not stop.is_set():
            learner.step()

    thread = threading.Thread(target=learn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def sustained(
    report: Report,
    service: KafkaService,
    broker: psutil.Process,
    device: torch.device,
    *,
    quick: bool,
) -> None:
    """Report the highest rates that can be offered."""
    topic = service.create_topic(configs=STREAM_SETTINGS)
    config = KafkaConfig(
        bootstrap_servers=service.bootstrap, topic=topic, group=topic, start_at="latest"
    )
    command = [sys.executable, str(Path(__file__).parent / "offering.py")]
    producer = subprocess.Popen(
        [*command, service.bootstrap, topic],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    bench = SustainedBench(config, producer, broker, seconds=3.0 if quick else 6.0)
    trials = {"": [], "_training": []}
    try:
        for _ in range(1 if quick else 3):
            for name, meanwhile in (("", nullcontext), ("_training", lambda: training(device))):
                trials[name].append(bench.highest(meanwhile, steps=3 if quick else 5))
    finally:
        producer.stdin.close()
        producer.wait()
    rates = {name: [trial.rate for trial in each] for name, each in trials.items()}
    for name, samples in rates.items():
        report.add(f"sustained{name}_records_per_second", samples)
    report.add_ratio("sustained_ratio_while_training", rates["_training"], rates[""])
    for name in trials["_training"][0].shares:
        report.add(f"{name}_share", [trial.shares[name] for trial in trials["_training"]])


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of offering a rate."""

    rate: float
    """As it was offered in fact."""
    is_sustained: bool
    shares: dict[str, float]
    """Of all cores, by who took them."""


class SustainedBench:
    """Offers rates to the loop up to tensors and looks at the lag."""

    def __init__(
        self,
        config: KafkaConfig,
        producer: "subprocess.Popen[str]",
        broker: psutil.Process,
        *,
        seconds: float,
    ) -> None:
        self._config = config
        self._producer = producer
        self._processes = {
            "broker": broker,
            "producer": psutil.Process(producer.pid),
            "ours": psutil.Process(),
        }
        self._seconds = seconds

    def highest(self, meanwhile: Callable, *, steps: int) -> Trial:
        """Return the trial of the highest rate that is sustained, found by halving."""
        low, high, best = 0.0, FIRST_RATE, None
        with meanwhile():
            while (trial := self._offer(high)).is_sustained and trial.rate > high * OFFERED_SHARE:
                low, high, best = high, high * 2, trial
            for _ in range(steps):
                middle = (low + high) / 2
                trial = self._offer(middle)
                if trial.is_sustained:
                    low, best = middle, trial
                else:
                    high = middle
        assert best is not None, "not even a rate near 0 is sustained"
        return best

    def _offer(self, rate: float) -> Trial:
        """Offer a rate to a source that begins at the topic's end."""
        source = KafkaSource(self._config, lineage="benchmark")
        partition = Partition(self._config.topic, 0)
        self._ask(rate)
        time.sleep(1.0)
        source.seek(source.first_places([partition]))
        pump = Pump(source)
        pump.run(self._seconds / 4)  # until caches and buffers are as they stay
        lag_before, sent_before = pump.lag(), self._ask(rate)
        before = {name: each.cpu_times() for name, each in self._processes.items()}
        started = time.perf_counter()
        pump.run(self._seconds)
        seconds = time.perf_counter() - started
        offered = self._ask(0.0) - sent_before
        growth = pump.lag() - lag_before
        shares = {
            name: busy(before[name], each.cpu_times()) / seconds / (os.cpu_count() or 1)
            for name, each in self._processes.items()
        }
        pump.close()
        is_sustained = growth <= LAG_SHARE * offered
        progress(f"offered {offered / seconds:.0f} of {rate:.0f}: lag grew by {growth}, {shares}")
        return Trial(offered / seconds, is_sustained, shares)

    def _ask(self, rate: float) -> int:
        """Set the producer's rate; return how many records were acknowledged so far."""
        self._producer.stdin.write(f"{rate}\n")
        self._producer.stdin.flush()
        return int(self._producer.stdout.readline())


class Pump:
    """The loop up to tensors; tasks are cut and dropped."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source
        self._decoder = Decoder(DecodingConfig(), input_shape=OFFERED_SHAPE, classes=CLASSES)
        limits = TaskBufferConfig(instances=TASK_INSTANCES)
        self._buffer = TaskBuffer(limits, now=time.monotonic)

    def run(self, seconds: float) -> None:
        """Take records in for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            batch = self._source.poll(POLL_RECORDS, 0.1)
            if batch is not None:
                decoded = self._decoder.decode_batch(batch)
                self._buffer.append(batch, decoded, self._source.positions())
            while (cause := self._buffer.wait_for_cut(0.0)) is not None:
                self._buffer.cut(cause)

    def lag(self) -> int:
        """Return how many records wait."""
        return sum(each.records for each in self._source.lag().values())

    def close(self) -> None:
        """Close all of it."""
        for each in (self._source, self._decoder, self._buffer):
            each.close()


def busy(before: object, after: object) -> float:
    """Return the seconds of processor time between two looks."""
    return after.user + after.system - before.user - before.system


if __name__ == "__main__":
    main()
