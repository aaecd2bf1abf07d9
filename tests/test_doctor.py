"""The doctor: looks at everything, changes nothing, and says what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest
from base_models import untrained_base
from kafka_service import KafkaService

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.daemon.config import Config, ModelConfig, ProcessConfig
from teacherd.daemon.doctor import Finding, examine
from teacherd.daemon.endpoints import EndpointsConfig, bind
from teacherd.daemon.notifications import NotificationsConfig


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration for a machine on which everything is there."""
    return Config(
        model=ModelConfig(base=str(untrained_base(tmp_path))),
        process=ProcessConfig(state_directory=str(tmp_path / "a" / "state"), device="cpu"),
        stream_log=StreamLogConfig(path=str(tmp_path / "stream.db")),
        endpoints=EndpointsConfig(port=0),
    )


def find(config: Config, subject: str) -> Finding:
    """Return what was found about one subject."""
    (finding,) = [each for each in examine(config) if each.subject == subject]
    return finding


def test_nothing_is_missing_where_everything_is_there(config: Config, tmp_path: Path) -> None:
    """Each subject once, and looking has made nothing."""
    before = sorted(tmp_path.rglob("*"))
    findings = examine(config)

    assert [
        "torch",
        "device",
        "crc32c",
        "base model",
        "state directory",
        "stream log",
        "port",
    ] == [finding.subject for finding in findings]
    assert not [finding for finding in findings if finding.state == "missing"]
    assert before == sorted(tmp_path.rglob("*"))


def test_a_finding_is_plain_values_for_programs(config: Config) -> None:
    """What --json prints."""
    found = find(config, "base model").to_json()

    assert {"state": "ok", "subject": "base model", "detail": "mlp, 3 classes"} == found


def test_a_missing_base_model_is_told(config: Config, tmp_path: Path) -> None:
    """With the ways to make one."""
    finding = find(replace(config, model=ModelConfig(base=str(tmp_path / "no"))), "base model")

    assert "missing" == finding.state
    assert "teacherd adopt" in finding.detail


def test_a_device_that_is_not_there_is_told(config: Config) -> None:
    """The daemon would not start with it."""
    process = replace(config.process, device="cuda:99")

    finding = find(replace(config, process=process), "device")

    assert "missing" == finding.state
    assert "process.device: 'cuda:99'" in finding.detail


def test_a_state_directory_below_a_file_is_told(config: Config, tmp_path: Path) -> None:
    """It can be made nowhere."""
    (tmp_path / "file").write_bytes(b"")
    process = replace(config.process, state_directory=str(tmp_path / "file" / "state"))

    finding = find(replace(config, process=process), "state directory")

    assert "missing" == finding.state
    assert f"{tmp_path / 'file'} is not a writable directory" in finding.detail


def test_the_stream_logs_directory_must_exist(config: Config, tmp_path: Path) -> None:
    """The daemon makes the file, not the directory."""
    stream_log = StreamLogConfig(path=str(tmp_path / "no" / "stream.db"))

    finding = find(replace(config, stream_log=stream_log), "stream log")

    assert "missing" == finding.state
    assert "its directory must exist" in finding.detail


def test_a_port_in_use_is_a_note(config: Config) -> None:
    """It may be the daemon itself that runs."""
    with bind(config.endpoints) as bound:
        port = bound.getsockname()[1]
        finding = find(replace(config, endpoints=EndpointsConfig(port=port)), "port")

    assert "note" == finding.state
    assert str(port) in finding.detail


def test_a_host_that_is_none_is_told(config: Config) -> None:
    """Trying again would not help."""
    finding = find(replace(config, endpoints=EndpointsConfig(host="no host")), "port")

    assert "missing" == finding.state


def test_kafka_is_looked_at_where_it_is_the_source(kafka: KafkaService, config: Config) -> None:
    """In place of the stream log: brokers, topic, number of partitions."""
    topic = kafka.create_topic(partitions=3)
    settings = KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic)
    with_kafka = replace(config, source="kafka", kafka=settings)
    found = find(with_kafka, "Kafka")
    without = find(replace(with_kafka, kafka=replace(settings, topic="nothing")), "Kafka")

    assert ("ok", f"{topic} at {kafka.bootstrap}, partitions: 3") == (found.state, found.detail)
    assert "missing" == without.state
    assert "has no topic nothing" in without.detail


def test_receivers_are_named_without_their_secrets(config: Config) -> None:
    """Nobody is told by default; a command that is not there is missing."""
    url = "https://hooks.example.org/T0/secret"
    both = replace(config, notifications=NotificationsConfig(webhook_url=url, command=("cat", "-")))
    lost = replace(config, notifications=NotificationsConfig(command=("no-such-command",)))

    assert "notifications" not in {each.subject for each in examine(config)}
    assert "ok" == find(both, "notifications").state
    assert "to https://hooks.example.org/*** and cat" in find(both, "notifications").detail
    assert "missing" == find(lost, "notifications").state
