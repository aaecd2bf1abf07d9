"""The settings of a Kafka source: what is refused, and what the clients are made with."""

from datetime import UTC, datetime

import pytest

from teacherd.consumers.kafka_config import KafkaConfig, client_options
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topic": " "}, "topic: "),
        ({"stall_seconds": 0.0}, "stall_seconds: "),
        ({"start_at": "yesterday"}, "start_at: yesterday: must be earliest, latest or"),
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism: null: must be set"),
        ({"sasl_password": "a", "sasl_password_file": "b"}, "sasl_password: is set beside"),
        ({"extra": {"group_id": "x"}}, "extra: group_id: must not be set here"),
        ({"extra": {"ssl_cafile": "x"}}, "extra: ssl_cafile: must not be set here"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    """With key, rule and fix."""
    with pytest.raises(ValueError, match=message):
        KafkaConfig(**settings)


@pytest.mark.parametrize(
    "start_at",
    ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)],
)
def test_a_time_may_be_written_with_or_without_quotes(start_at: object) -> None:
    """YAML reads it as a time of its own kind; without a zone it is UTC."""
    config = parse(Config, {"kafka": {"start_at": start_at}}, origin="test").kafka

    assert 1_769_860_800_000 == config.start_ms


def test_ends_have_no_time() -> None:
    """They are asked for by name."""
    assert KafkaConfig(start_at="latest").start_ms is None


def test_options_are_passed_under_the_clients_names() -> None:
    """Those of `extra` only where the client has them."""
    config = KafkaConfig(
        bootstrap_servers="a:1, b:2",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="user",
        extra={"client_id": "mine", "linger_ms": 5},
    )
    options = client_options(config, known=["client_id"])

    assert ["a:1", "b:2"] == options["bootstrap_servers"]
    assert ("PLAIN", "user") == (options["sasl_mechanism"], options["sasl_plain_username"])
    assert "mine" == options["client_id"]
    assert "linger_ms" not in options
