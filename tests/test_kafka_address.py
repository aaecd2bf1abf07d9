"""Topics as one word on the command line."""

import pytest

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.daemon.errors import UsageError
from teacherd.daemon.kafka_address import topic_at


def test_an_address_names_brokers_and_topic() -> None:
    """All else stays as configured."""
    config = topic_at("kafka://a:1,b:2/images", KafkaConfig(group="mine"), option="--to")

    assert ("a:1,b:2", "images", "mine") == (config.bootstrap_servers, config.topic, config.group)


@pytest.mark.parametrize("address", ["a:1/images", "kafka://a:1", "kafka:///x", "kafka://a/x/y"])
def test_what_is_no_address_is_named(address: str) -> None:
    """With the option it was given to, and the form."""
    with pytest.raises(UsageError, match=r"--to: .*must be kafka://host:port/topic"):
        topic_at(address, KafkaConfig(), option="--to")
