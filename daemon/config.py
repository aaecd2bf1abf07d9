"""The configuration: one tree of frozen dataclasses, read from file, environment and flags."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from teacherd.consumers.decoding import DecodingConfig
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.consumers.task_buffer import TaskBufferConfig
from teacherd.daemon.checkpoint import CheckpointConfig
from teacherd.daemon.classes_config import ClassesConfig
from teacherd.daemon.config_parsing import overlay_assignments, overlay_environment, parse
from teacherd.daemon.drift_config import DriftConfig
from teacherd.daemon.endpoints import EndpointsConfig
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.evaluation_sets import EvaluationConfig
from teacherd.daemon.gate import GateConfig
from teacherd.daemon.intake import IntakeConfig
from teacherd.daemon.logs import LoggingConfig
from teacherd.daemon.niceness import MAX_NICENESS
from teacherd.daemon.notifications import NotificationsConfig
from teacherd.daemon.publication import PublicationConfig
from teacherd.daemon.serving_config import ServingConfig
from teacherd.daemon.set_aside_config import SetAsideConfig
from teacherd.models.learner_config import LearnerConfig

_LEAST_RANK_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What the lineage starts from."""

    base: str = "base"
    """Folder of version 0, as `teacherd adopt` or `teacherd pretrain` writes it."""
    classes: tuple[str, ...] | None = None
    """Class names that the base model must have, in order; null takes what it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessConfig:
    """The process itself."""

    state_directory: str = "state"
    """Where the lineage lives: log, checkpoints, and `public/` for those who load teachers."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1."""
    num_threads: int = 0
    """Threads of a tensor operation on the CPU; 0 takes torch's default. Bits depend on it."""
    learning_niceness: int = MAX_NICENESS
    """Of the learning thread, added to the process's: intake comes first where cores are short."""
    shutdown_seconds: float = 25.0
    """Deadline of an orderly stop, below the 30 s after which most supervisors kill."""
    seed: int = 0
    """Seed of a new lineage; every random draw is keyed by it."""
    rank_timeout_seconds: float = 60.0
    """For so long one of several ranks waits for another before it takes it for lost."""

    def __post_init__(self) -> None:
        if self.num_threads < 0:
            raise ValueError(
                f"num_threads: {self.num_threads}: must not be negative; 0 is torch's default"
            )
        if not 0 <= self.learning_niceness <= MAX_NICENESS:
            raise ValueError(
                f"learning_niceness: {self.learning_niceness}: must lie in 0 to {MAX_NICENESS};"
                " take 19, or 0 to give way to nobody"
            )
        if self.rank_timeout_seconds < _LEAST_RANK_TIMEOUT_SECONDS:
            raise ValueError(
                f"rank_timeout_seconds: {self.rank_timeout_seconds}: must be at least "
                f"{_LEAST_RANK_TIMEOUT_SECONDS:g}, since ranks hear of each other once a second; "
                "take 60"
            )
        if self.shutdown_seconds <= 0:
            raise ValueError(f"shutdown_seconds: {self.shutdown_seconds}: must be above 0; take 25")


_DECODING_BEFORE: Mapping[str, Any] = {"max_header_bytes": sys.maxsize}
"""What decoding did before these keys came; entries of the log without them still mean it."""
_LEARNING_BEFORE: Mapping[str, Mapping[str, Any]] = {
    "optimizer": {"decay": "none", "warmup_share": 0.0},
    "distillation": {"dust": "noise", "form": "fused"},
    "consolidation": {"least_retain": 0.0},
}
"""What learning did before these keys came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecidingConfig:
    """The settings that decide weights, which the lineage log holds."""

    learning: LearnerConfig
    decoding: DecodingConfig
    gate: GateConfig = field(default_factory=lambda: GateConfig(holdout_share=0.0))
    """Off where a log does not say: lineages of 0.1.0 had none."""
    base_holdout_sha256: str | None = None
    """Of the instances taken from gate.base_holdout."""
    drift: DriftConfig = field(default_factory=DriftConfig.off)
    """Off where a log does not say: lineages of 0.1.0 had no detectors."""
    set_aside: SetAsideConfig | None = None
    """Without bound where a log does not say: it may have retries of any task."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    """Those of version 0 for ever where a log does not say."""

    def to_entry(self) -> dict[str, Any]:
        """Return them as the log's JSON gives them back."""
        settings: dict[str, Any] = to_plain(asdict(self))
        return settings

    @classmethod
    def from_entry(cls, settings: Mapping[str, Any]) -> "DecidingConfig":
        """Read them from the log; what an older version did not have means what it did then.

        Raises:
            ConfigurationError: They are of another version of teacherd, and mean nothing to this.
        """
        decoding = {**_DECODING_BEFORE, **settings.get("decoding", {})}
        written = {**settings, "decoding": decoding}
        if "learning" in settings:
            learning = settings["learning"]
            sections = {
                name: {**before, **learning[name]}
                for name, before in _LEARNING_BEFORE.items()
                if name in learning
            }
            written["learning"] = {**learning, **sections}
        return parse(cls, written, origin="lineage log")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything that can be set; each section beside its owner."""

    model: ModelConfig = field(default_factory=ModelConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    source: Literal["stream_log", "kafka"] = "stream_log"
    """Where records come from: the embedded stream log, or a topic of Apache Kafka."""
    stream_log: StreamLogConfig = field(default_factory=StreamLogConfig)
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    tasks: TaskBufferConfig = field(default_factory=TaskBufferConfig)
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    learning: LearnerConfig = field(default_factory=LearnerConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    set_aside: SetAsideConfig = field(default_factory=SetAsideConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    publication: PublicationConfig = field(default_factory=PublicationConfig)
    notifications: NotificationsConfig = field(default_factory=NotificationsConfig)
    endpoints: EndpointsConfig = field(default_factory=EndpointsConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    @property
    def on_lost_records(self) -> Literal["stop", "continue"]:
        """What to do when records of the source are gone."""
        section = self.kafka if self.source == "kafka" else self.stream_log
        return section.on_lost_records

    @property
    def deciding(self) -> "DecidingConfig":
        """The part that decides weights."""
        return DecidingConfig(
            learning=self.learning,
            decoding=self.decoding,
            gate=self.gate,
            drift=self.drift,
            set_aside=self.set_aside,
            classes=self.classes,
        )


def load_config(
    path: Path | None,
    *,
    environment: Mapping[str, str],
    assignments: Sequence[str] = (),
) -> Config:
    """Read the configuration; flag > environment > file > default.

    Raises:
        ConfigurationError: Carries every problem found.
    """
    raw = {} if path is None else _read_yaml(path)
    overlay_environment(raw, environment)
    overlay_assignments(raw, assignments)
    try:
        config = parse(Config, raw, origin=str(path or "configuration"))
    except RecursionError as error:
        rule = "nested without end: an alias is part of what it stands for; write it out"
        raise ConfigurationError([Problem("--config", f"{path}: {rule}")]) from error
    return replace(config, kafka=_read_secrets(config.kafka))


def changed_keys(old: Config, new: Config) -> list[str]:
    """Return the dotted keys in which two configurations differ."""
    before, after = flatten(asdict(old)), flatten(asdict(new))
    return sorted(key for key in before | after if before.get(key) != after.get(key))


def to_plain(value: Any) -> Any:  # noqa: ANN401 (a tree of JSON values)
    """Turn tuples into lists, so that what is compared is what JSON gives back."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    return value


def _read_secrets(kafka: KafkaConfig) -> KafkaConfig:
    """Take passwords out of the files that hold them."""
    problems = []
    secrets: dict[str, Any] = {}
    for name in ("ssl_password", "sasl_password"):
        path = getattr(kafka, f"{name}_file")
        if path is None:
            continue
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
            secrets |= {name: text, f"{name}_file": None}
        except (OSError, ValueError) as error:
            rule = f"{path}: cannot be read: {error}; name a file that the daemon may read"
            problems.append(Problem(f"kafka.{name}_file", rule))
    if problems:
        raise ConfigurationError(problems)
    return replace(kafka, **secrets)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a tree of sections by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        is_section = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": value}
    return flat


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "name a file that can be read; an empty one takes every default"
        raise ConfigurationError(
            [Problem("--config", f"{path}: {error.strerror}; {hint}")]
        ) from error
    # ValueError is what a date such as 2026-13-01 raises, or bytes that are no UTF-8.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError([Problem("--config", f"{path} is no YAML: {error}")]) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigurationError(
            [Problem("--config", f"{path} holds a {type(raw).__name__}, not sections of keys")]
        )
    return raw
