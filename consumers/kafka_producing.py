"""Clients that write: producers that are sure when they say so, and topics that are not there."""

from collections.abc import Iterable, Mapping
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from teacherd.consumers.kafka_client import make_client
from teacherd.consumers.kafka_config import KafkaConfig, client_options

_MAX_RECORD_BYTES = 1 << 30
"""Whether a record is too large is for the topic to say."""


def open_producer(config: KafkaConfig, **options: object) -> Any:  # noqa: ANN401 (kafka-python has no types)
    """Make a producer whose sends are durable on all replicas in sync when they succeed."""
    shared = client_options(config, KafkaProducer.DEFAULT_CONFIG)
    ours = {
        "acks": "all",
        # A copy that a retry makes is recognised by its origin; a broken sequence stops everything.
        "enable_idempotence": False,
        "allow_auto_create_topics": False,
        "delivery_timeout_ms": 30_000,
        "max_block_ms": 15_000,
        "max_request_size": _MAX_RECORD_BYTES,
        "metrics_enabled": False,
    }
    return make_client(KafkaProducer, {**ours, **shared, **options})


def require_known(options: Iterable[str]) -> None:
    """Let no typing error in `kafka.extra` pass.

    Raises:
        ValueError: None of the clients has one of these options.
    """
    kinds = (KafkaConsumer, KafkaProducer, KafkaAdminClient)
    unknown = set(options).difference(*(kind.DEFAULT_CONFIG for kind in kinds))
    if unknown:
        raise ValueError(f"its clients have no {', '.join(sorted(unknown))}")


def ensure_topic(
    config: KafkaConfig, name: str, settings: Mapping[str, str], *, num_partitions: int = 1
) -> bool:
    """Make a topic unless it is there; return whether it was made."""
    options = client_options(config, KafkaAdminClient.DEFAULT_CONFIG)
    admin = make_client(KafkaAdminClient, options)
    try:
        if name in admin.list_topics():
            return False
        topic = {
            "num_partitions": num_partitions,
            "replication_factor": -1,
            "configs": dict(settings),
        }
        admin.create_topics({name: topic}, wait_for_metadata=True)
        return True
    except TopicAlreadyExistsError:
        return False
    finally:
        admin.close()
