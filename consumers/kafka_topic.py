"""What the cluster says about a topic: how long it keeps records, and whether it compacts them."""

import math
from collections.abc import Mapping

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from teacherd.consumers.kafka_client import make_client
from teacherd.consumers.kafka_config import KafkaConfig, client_options
from teacherd.consumers.source import Retention

_MS = 1000
_POLICY, _COMPACT = "cleanup.policy", "compact"


def topic_settings(config: KafkaConfig) -> Mapping[str, str]:
    """Return the settings of the input topic, defaults of the cluster included."""
    admin = make_client(KafkaAdminClient, client_options(config, KafkaAdminClient.DEFAULT_CONFIG))
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, config.topic)
        found = admin.describe_configs([resource], config_filter="all")
    finally:
        admin.close()
    return {name: each["value"] for name, each in found["topic"][config.topic].items()}


def is_compacted(settings: Mapping[str, str]) -> bool:
    """Tell whether brokers delete records that share a key with a later one."""
    return _COMPACT in cleanup_policy(settings)


def cleanup_policy(settings: Mapping[str, str]) -> str:
    """Return how brokers clean the topic; empty where they do not let us see its settings."""
    return settings.get(_POLICY, "")


def retention_of(settings: Mapping[str, str]) -> Retention:
    """Return what brokers delete although nobody has learned it."""
    if "delete" not in settings.get(_POLICY, "delete"):
        return Retention()
    milliseconds = _bound(settings.get("retention.ms"))
    num_bytes = _bound(settings.get("retention.bytes"))
    return Retention(
        seconds=None if milliseconds is None else milliseconds / _MS,
        num_bytes=None if num_bytes is None else math.floor(num_bytes),
    )


def _bound(text: str | None) -> float | None:
    """Return a limit; negative ones set none."""
    return None if text is None or float(text) < 0 else float(text)
