"""A topic of Kafka as one word on the command line: kafka://host:port,host:port/topic."""

from dataclasses import replace
from urllib.parse import urlsplit

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.daemon.errors import UsageError

_SCHEME = "kafka"


def topic_at(address: str, config: KafkaConfig, *, option: str) -> KafkaConfig:
    """Return the settings with brokers and topic of an address; all else stays as configured.

    Raises:
        UsageError: It is no such address.
    """
    parts = urlsplit(address)
    topic = parts.path.strip("/")
    if parts.scheme != _SCHEME or not parts.netloc or not topic or "/" in topic:
        raise UsageError(f"{option}: {address}: must be kafka://host:port/topic")
    return replace(config, bootstrap_servers=parts.netloc, topic=topic)
