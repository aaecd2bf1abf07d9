"""A replay from a real topic: the same weights, and the group and its commits left alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from forked_daemon import ForkedDaemon
from kafka_daemon import feature_values, kafka_settings
from kafka_service import KafkaService

from teacherd.consumers.producing import NPY, build_record
from teacherd.daemon.errors import ExitCode

pytestmark = pytest.mark.usefixtures("logging_left_alone")


@pytest.fixture
def settings(kafka: KafkaService, tmp_path: Path) -> dict[str, Any]:
    """Return settings for a topic of two partitions with records for some tasks."""
    topic = kafka.create_topic(partitions=2)
    junk = build_record(b"junk", content_type=NPY, label="cat")
    kafka.produce(topic, [*feature_values(20), junk], partition=0)
    kafka.produce(topic, feature_values(20, seed=1), partition=1)
    return kafka_settings(tmp_path, kafka.bootstrap, topic)


@pytest.fixture
def daemon(settings: dict[str, Any], tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give a daemon that runs and has learned four tasks."""
    daemon = ForkedDaemon(settings, tmp_path)
    daemon.start()
    daemon.wait_until(lambda: daemon.log_path.read_text().count('"task_closed"') == 4)
    yield daemon
    daemon.close()


def test_versions_are_made_again_from_the_topic(
    kafka: KafkaService,
    daemon: ForkedDaemon,
    settings: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside the running daemon; what retention has deleted cannot be, and the list says so."""
    config = tmp_path / "settings.yaml"
    config.write_text(json.dumps(settings))
    teacherd = CommandLine(capsys)
    replayed = teacherd("replay", "--config", config, "--json")
    rows = teacherd("versions", "list", "--config", config, "--json").json

    assert (0, "equal") == (replayed.code, replayed.json["result"])
    assert [1, 2, 3, 4] == [each["version"] for each in replayed.json["versions"]]
    assert [None, 0, 0, 0, 0] == [row["replay_from"] for row in rows]
    assert ExitCode.OK == daemon.terminate()

    ranges = [closed for closed in daemon.plans()[0].ranges if closed.count]
    for closed in ranges:
        kafka.delete_records(settings["kafka"]["topic"], closed.partition, closed.end)
    later = teacherd("replay", "--config", config, "--json")
    first = teacherd("replay", "--to", 1, "--config", config)

    assert (0, "equal", 1) == (later.code, later.json["result"], later.json["start"])
    assert ExitCode.UNAVAILABLE == first.code
    assert "version 1 cannot be replayed" in first.err
