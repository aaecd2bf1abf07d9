"""A lineage that moves to another stream goes on there: no record twice, no version made anew."""

from pathlib import Path
from typing import Any

import pytest
from accounting import account
from assemblies import feature_records, make_bench
from forked_daemon import ForkedDaemon
from kafka_service import KafkaService

from teacherd.consumers.kafka_appender import KafkaAppender
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon
from teacherd.daemon.errors import ExitCode

OLD = Partition("instances", 0)


def drain(settings: dict[str, Any], directory: Path) -> ForkedDaemon:
    """Run a daemon until it has learned all that is in its stream."""
    daemon = ForkedDaemon(settings, directory)
    daemon.start()
    try:
        daemon.wait_until_started()
        ask_daemon(directory / "state", Command("drain", None))

        assert ExitCode.OK == daemon.wait()
    finally:
        daemon.close()
    return daemon


def check(daemon: ForkedDaemon, new: Partition, first: int) -> None:
    """See that 15 records of the old stream and 12 of the new are learned once."""
    accounts = account(
        daemon.entries(),
        records={OLD: range(1, 16), new: range(first, first + 12)},
        letters=[],
        begins={OLD: 1, new: first},
    )

    assert ([], []) == (accounts.lost, accounts.twice)
    assert {"trained": 27} == accounts.fates
    assert {OLD: 16, new: first + 12} == accounts.places
    assert [1, 2, 3, 4] == [outcome.version for outcome in daemon.outcomes()]


def first_stream(directory: Path) -> dict[str, Any]:
    """Learn a stream log to its end; return the settings."""
    bench = make_bench(directory, endpoints={"port": 0}, logging={"format": "json"})
    bench.append(feature_records(15))
    drain(bench.settings, directory)
    return bench.settings


def test_to_another_stream_log(tmp_path: Path) -> None:
    """Under a name of its own: offsets of the two begin alike."""
    settings = first_stream(tmp_path)
    new = {"path": str(tmp_path / "new.db"), "topic": "instances-2"}
    append(StreamLogConfig(**new), feature_records(12, seed=1))
    daemon = drain({**settings, "stream_log": new}, tmp_path)

    check(daemon, Partition("instances-2", 0), first=1)


def append(config: StreamLogConfig, records: list[NewRecord]) -> None:
    """Append to a stream log."""
    log = StreamLog(config)
    log.append(records)
    log.close()


def test_to_another_log_under_the_same_name_it_is_refused(tmp_path: Path) -> None:
    """It would take the new records for ones that it has learned: 69, and nothing is changed."""
    settings = first_stream(tmp_path)
    new = {"path": str(tmp_path / "new.db")}
    append(StreamLogConfig(**new), feature_records(12, seed=1))
    daemon = ForkedDaemon({**settings, "stream_log": new}, tmp_path)
    num_entries = len(daemon.entries())
    daemon.start()

    assert ExitCode.UNAVAILABLE == daemon.wait()
    assert "the log ends before them" in daemon.log_path.read_text()
    assert num_entries == len(daemon.entries())


@pytest.mark.slow
def test_to_kafka(tmp_path: Path, kafka: KafkaService) -> None:
    """From the embedded log, with which one begins, to a real topic."""
    settings = first_stream(tmp_path)
    topic = kafka.create_topic()
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic, group=topic)
    appender = KafkaAppender(config)
    appender.append(feature_records(12, seed=1))
    appender.close()
    section = {"bootstrap_servers": kafka.bootstrap, "topic": topic, "group": topic}
    daemon = drain({**settings, "source": "kafka", "kafka": section}, tmp_path)

    check(daemon, Partition(topic, 0), first=0)
