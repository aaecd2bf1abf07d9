"""Compaction takes single records from a topic and leaves no trace: it is told at the start."""

import structlog

from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.kafka_errors import source_errors
from teacherd.consumers.kafka_topic import cleanup_policy, is_compacted, topic_settings
from teacherd.consumers.source import SourceRefusedError


def tell_compaction(config: KafkaConfig) -> None:
    """Refuse a compacted topic, or warn of it where lost records are allowed.

    Raises:
        SourceRefusedError: It is compacted, and nothing may be lost.
        SourceError: The brokers do not answer.
    """
    log = structlog.get_logger()
    with source_errors("asking for the topic's settings"):
        settings = topic_settings(config)
    policy = cleanup_policy(settings)
    if not policy:
        # Without the right to see them, Kafka answers with no settings at all.
        log.warning("topic_settings_hidden", topic=config.topic)
    elif is_compacted(settings) and config.on_lost_records == "stop":
        raise SourceRefusedError(
            "on_lost_records",
            f"stop: the topic {config.topic} has cleanup.policy={policy}: records that share a key "
            "with a later one vanish without a trace, before they are learned or from under a "
            "plan, so it must not be compacted; set cleanup.policy=delete on the topic, or "
            "kafka.on_lost_records: continue",
        )
    elif is_compacted(settings):
        log.warning("topic_compacted", topic=config.topic, policy=policy)
