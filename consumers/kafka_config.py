"""The settings of a Kafka source, and the options that every client of it is made with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

EARLIEST, LATEST = "earliest", "latest"
_CLIENT_ID = "teacherd"
_OURS = (
    "bootstrap_servers",
    "group_id",
    "auto_offset_reset",
    "enable_auto_commit",
    "isolation_level",
    "key_deserializer",
    "value_deserializer",
    "key_serializer",
    "value_serializer",
)
"""Options that `extra` must not touch: the guarantee rests on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaConfig:
    """Which topic of which Kafka is read, and how the cluster is spoken to."""

    bootstrap_servers: str = "localhost:9092"
    """Some of the brokers, host:port, separated by commas."""
    topic: str = "instances"
    """What is read; its dead letters go to a topic of the same name and `.dlq`."""
    group: str = "teacherd"
    """The consumer group that notes how far records are decided, so that lag tools work."""
    start_at: str | datetime = EARLIEST
    """Where a new lineage begins: earliest, latest, or an ISO 8601 time such as
    2026-01-31T12:00:00Z. An offset that the group has committed goes before."""
    take_over: bool = False
    """Whether to go on where another lineage has committed to the group; else exit 78."""
    on_lost_records: Literal["stop", "continue"] = "stop"
    """What to do when records that were not learned are gone: exit 69, or skip them."""
    discovery_seconds: float = 30.0
    """How soon partitions that are added are read."""
    stall_seconds: float = 60.0
    """A partition that has records and gives none for so long counts as stalled."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """As the brokers' listener wants it."""
    ssl_cafile: str | None = None
    """Certificates of the authorities to trust, PEM; null trusts the system's."""
    ssl_certfile: str | None = None
    """Our own certificate, PEM, where brokers ask for one."""
    ssl_keyfile: str | None = None
    """Its key, PEM."""
    ssl_password: str | None = None
    """Of the key; better in ssl_password_file or the environment."""
    ssl_password_file: str | None = None
    """File that holds it."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must name the host."""
    sasl_mechanism: str | None = None
    """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or OAUTHBEARER."""
    sasl_username: str | None = None
    """Of PLAIN and SCRAM."""
    sasl_password: str | None = None
    """Better in sasl_password_file or TEACHERD_KAFKA__SASL_PASSWORD."""
    sasl_password_file: str | None = None
    """File that holds it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Any other option of kafka-python's clients, by its name there."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for name in ("bootstrap_servers", "topic", "group"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: '': must not be empty; name one")
        for name in ("discovery_seconds", "stall_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)}: must be above 0; take 30")
        if "SASL" in self.security_protocol and self.sasl_mechanism is None:
            raise ValueError(
                f"sasl_mechanism: null: must be set for {self.security_protocol}; take PLAIN or "
                "what the brokers' listener wants"
            )
        for name in ("ssl_password", "sasl_password"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"{name}: is set beside {name}_file; remove one of them")
        forbidden = sorted(set(self.extra) & {*_OURS, *_PASSED_ON})
        if forbidden:
            raise ValueError(
                f"extra: {', '.join(forbidden)}: must not be set here; use the key of this section "
                "or leave it to teacherd"
            )
        self._parse_start()

    @property
    def start_ms(self) -> int | None:
        """Return the time at which a new lineage begins; None for earliest and latest."""
        moment = self._parse_start()
        return None if moment is None else int(moment.timestamp() * 1000)

    @property
    def dead_letter_topic(self) -> str:
        """Return where records go that are no instances."""
        return f"{self.topic}.dlq"

    def _parse_start(self) -> datetime | None:
        if self.start_at in (EARLIEST, LATEST):
            return None
        moment = self.start_at
        if isinstance(moment, str):
            try:
                moment = datetime.fromisoformat(moment)
            except ValueError as error:
                raise ValueError(
                    f"start_at: {self.start_at}: must be earliest, latest or an ISO 8601 time; "
                    "take earliest"
                ) from error
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_PASSED_ON = {
    "security_protocol": "security_protocol",
    "ssl_cafile": "ssl_cafile",
    "ssl_certfile": "ssl_certfile",
    "ssl_keyfile": "ssl_keyfile",
    "ssl_password": "ssl_password",
    "ssl_check_hostname": "ssl_check_hostname",
    "sasl_mechanism": "sasl_mechanism",
    "sasl_plain_username": "sasl_username",
    "sasl_plain_password": "sasl_password",
}
"""kafka-python's name to ours."""


def client_options(config: KafkaConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that consumers, producers and admin clients share.

    Args:
        config: The section.
        known: The client's own options by name; those of `extra` that it lacks are for others.
    """
    options = {theirs: getattr(config, ours) for theirs, ours in _PASSED_ON.items()}
    servers = [server.strip() for server in config.bootstrap_servers.split(",")]
    return {
        "bootstrap_servers": servers,
        "client_id": _CLIENT_ID,
        "bootstrap_timeout_ms": 10_000,
        "request_timeout_ms": 15_000,
        "reconnect_backoff_max_ms": 5_000,
        **options,
        **{name: value for name, value in config.extra.items() if name in known},
    }
