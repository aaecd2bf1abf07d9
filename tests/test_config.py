"""The configuration: config.yaml is complete and true, and every source of settings ranks."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from teacherd.daemon.config import (
    Config,
    DecidingConfig,
    changed_keys,
    load_config,
)
from teacherd.daemon.config_parsing import keys_of
from teacherd.daemon.errors import ConfigurationError

CONFIG_YAML = Path(__file__).parent.parent / "config.yaml"
KEYS = [
    "model.base",
    "model.classes",
    "process.state_directory",
    "process.device",
    "process.num_threads",
    "process.learning_niceness",
    "process.shutdown_seconds",
    "process.seed",
    "process.rank_timeout_seconds",
    "source",
    "stream_log.path",
    "stream_log.topic",
    "stream_log.retention_hours",
    "stream_log.retention_bytes",
    "stream_log.on_lost_records",
    "kafka.bootstrap_servers",
    "kafka.topic",
    "kafka.group",
    "kafka.start_at",
    "kafka.take_over",
    "kafka.on_lost_records",
    "kafka.discovery_seconds",
    "kafka.stall_seconds",
    "kafka.security_protocol",
    "kafka.ssl_cafile",
    "kafka.ssl_certfile",
    "kafka.ssl_keyfile",
    "kafka.ssl_password",
    "kafka.ssl_password_file",
    "kafka.ssl_check_hostname",
    "kafka.sasl_mechanism",
    "kafka.sasl_username",
    "kafka.sasl_password",
    "kafka.sasl_password_file",
    "kafka.extra",
    "intake.poll_records",
    "intake.max_backoff_seconds",
    "intake.max_rejected_share",
    "intake.rejected_window_records",
    "decoding.decoder",
    "decoding.max_record_bytes",
    "decoding.max_header_bytes",
    "decoding.max_pixels",
    "decoding.max_dimension",
    "decoding.num_threads",
    "tasks.instances",
    "tasks.max_instances",
    "tasks.max_age_seconds",
    "tasks.min_instances",
    "tasks.max_records",
    "tasks.buffer_bytes",
    "classes.unknown",
    "classes.allow",
    "classes.min_instances",
    "classes.max_new_per_task",
    "classes.max_total",
    "classes.max_deferred_bytes",
    "classes.max_deferred_tasks",
    "learning.epochs",
    "learning.min_epochs",
    "learning.batch_size",
    "learning.batch_norm",
    "learning.precision",
    "learning.optimizer.kind",
    "learning.optimizer.learning_rate",
    "learning.optimizer.decay",
    "learning.optimizer.warmup_share",
    "learning.optimizer.momentum",
    "learning.optimizer.weight_decay",
    "learning.optimizer.gradient_clip",
    "learning.distillation.label_share",
    "learning.distillation.form",
    "learning.distillation.temperature",
    "learning.distillation.dust_weight",
    "learning.distillation.dust",
    "learning.distillation.flip_share",
    "learning.distillation.sigma",
    "learning.new_classes.pool",
    "learning.new_classes.groups",
    "learning.new_classes.weight",
    "learning.new_classes.weighting",
    "learning.new_classes.labels",
    "learning.new_classes.means",
    "learning.memory.instances_per_class",
    "learning.memory.max_bytes",
    "learning.consolidation.kind",
    "learning.consolidation.retain",
    "learning.consolidation.horizon_instances",
    "learning.consolidation.least_retain",
    "learning.consolidation.momentum",
    "learning.consolidation.freezing_epochs",
    "learning.consolidation.interval_epochs",
    "learning.consolidation.keep_probability",
    "learning.augmentation.crop_padding",
    "learning.augmentation.horizontal_flip",
    "drift.error.kind",
    "drift.error.adwin_delta",
    "drift.error.page_hinkley_delta",
    "drift.error.page_hinkley_threshold",
    "drift.error.kswin_alpha",
    "drift.outer.kind",
    "drift.outer.adwin_delta",
    "drift.outer.page_hinkley_delta",
    "drift.outer.page_hinkley_threshold",
    "drift.outer.kswin_alpha",
    "drift.watch_inputs",
    "drift.watch_labels",
    "drift.min_instances",
    "drift.false_alarm_rate",
    "drift.smallest_input_shift",
    "drift.smallest_label_shift",
    "drift.cut_early",
    "drift.learning_rate_factor",
    "evaluation.sets",
    "evaluation.batch_size",
    "evaluation.worst_classes",
    "gate.holdout_share",
    "gate.holdout_instances",
    "gate.holdout_tasks",
    "gate.holdout_bytes",
    "gate.base_holdout",
    "gate.base_instances",
    "gate.pool_instances",
    "gate.allowance",
    "gate.forgetting",
    "gate.class_allowance",
    "gate.new_class_accuracy",
    "gate.confidence",
    "gate.grid",
    "gate.max_held",
    "gate.drift_excess",
    "gate.probation_tasks",
    "gate.probation_allowance",
    "set_aside.keep_tasks",
    "checkpoints.interval_seconds",
    "checkpoints.interval_steps",
    "checkpoints.keep",
    "publication.mode",
    "publication.keep_versions",
    "publication.signing_key_file",
    "publication.mirrors",
    "notifications.webhook_url",
    "notifications.webhook_token_file",
    "notifications.command",
    "notifications.events",
    "notifications.timeout_seconds",
    "notifications.max_backoff_seconds",
    "notifications.give_up_seconds",
    "notifications.max_waiting",
    "endpoints.host",
    "endpoints.port",
    "endpoints.liveness_seconds",
    "endpoints.serve_versions",
    "endpoints.certificate_file",
    "endpoints.key_file",
    "endpoints.accept_instances",
    "endpoints.token",
    "endpoints.token_file",
    "endpoints.max_request_bytes",
    "endpoints.max_requests_per_second",
    "endpoints.admin_token_file",
    "serving.root",
    "serving.host",
    "serving.port",
    "serving.certificate_file",
    "serving.key_file",
    "serving.model_name",
    "serving.device",
    "serving.num_threads",
    "serving.mode",
    "serving.poll_seconds",
    "serving.network",
    "serving.public_key_file",
    "serving.cache_directory",
    "serving.options",
    "serving.option_files",
    "serving.max_batch",
    "serving.max_delay_seconds",
    "serving.max_queue",
    "serving.max_request_instances",
    "serving.max_request_bytes",
    "serving.start_seconds",
    "serving.shutdown_seconds",
    "logging.level",
    "logging.format",
]


def written_keys(raw: dict[str, object], prefix: str = "") -> list[str]:
    """Return the dotted keys of a YAML document, in its order."""
    keys = []
    for key, value in raw.items():
        is_section = isinstance(value, dict) and bool(value)
        keys += written_keys(value, f"{prefix}{key}.") if is_section else [f"{prefix}{key}"]
    return keys


def test_config_yaml_says_the_defaults() -> None:
    """Whoever reads the file knows what happens without it."""
    assert Config() == load_config(CONFIG_YAML, environment={})


def test_config_yaml_names_every_key_in_order() -> None:
    """No key is found only in the source."""
    assert keys_of(Config) == written_keys(yaml.safe_load(CONFIG_YAML.read_text()))


def test_every_key_in_config_yaml_has_a_comment() -> None:
    """Each key says what it is, in which unit, and why its default is what it is."""
    lines = CONFIG_YAML.read_text().splitlines()
    keys = [place for place, line in enumerate(lines) if line and not line.lstrip().startswith("#")]

    assert [] == [lines[place] for place in keys if not lines[place - 1].lstrip().startswith("#")]


def test_the_list_of_keys_changes_only_on_purpose() -> None:
    """A key that is renamed or removed breaks somebody's file: say so in the changelog."""
    assert KEYS == keys_of(Config)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each source of settings lies over the one below it, key by key."""
    path = tmp_path / "config.yaml"
    path.write_text("learning: {epochs: 2, batch_size: 3}\nlogging: {level: error}\n")
    environment = {"TEACHERD_LEARNING__EPOCHS": "4", "TEACHERD_LEARNING__BATCH_SIZE": "5"}

    config = load_config(path, environment=environment, assignments=["learning.epochs=6"])

    assert (6, 5) == (config.learning.epochs, config.learning.batch_size)
    assert "error" == config.logging.level
    assert Config().tasks == config.tasks


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """All keys may be left out."""
    (tmp_path / "config.yaml").write_text("# nothing yet\n")

    assert Config() == load_config(tmp_path / "config.yaml", environment={})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("- a list", "holds a list"),
        ("a: [", "is no YAML"),
        ("a: " + "[" * 5000, "is no YAML"),
        ("model: &all {base: *all}", "nested without end"),
        ("\xff\xfe", "is no YAML"),
        ("a: 2026-13-01", "is no YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_told(tmp_path: Path, content: str, told: str) -> None:
    """The message names the file and what is wrong with it."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content.encode("latin-1"))

    with pytest.raises(ConfigurationError, match=told):
        load_config(path, environment={})


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("tasks.instances=0", "tasks.instances"),
        ("tasks.max_records=10", "tasks.max_records"),
        ("classes.min_instances=0", "classes.min_instances"),
        ("learning.epochs=0", "learning.epochs"),
        ("learning.batch_size=0", "learning.batch_size"),
        ("learning.optimizer.learning_rate=-1", "learning.optimizer.learning_rate"),
        ("learning.distillation.label_share=2", "learning.distillation.label_share"),
        ("learning.consolidation.retain=1", "learning.consolidation.retain"),
        ("learning.consolidation.kind=magic", "learning.consolidation.kind"),
        ("decoding.max_pixels=0", "decoding.max_pixels"),
        ("decoding.decoder=nonsense", "decoding.decoder"),
        ("stream_log.retention_hours=0", "stream_log.retention_hours"),
        ("intake.poll_records=0", "intake.poll_records"),
        ("evaluation.batch_size=0", "evaluation.batch_size"),
        ("checkpoints.keep=0", "checkpoints.keep"),
        ("publication.keep_versions=0", "publication.keep_versions"),
        ("publication.mode=sometimes", "publication.mode"),
        ("gate.holdout_share=0.6", "gate.holdout_share"),
        ("gate.allowance=0", "gate.allowance"),
        ("gate.confidence=0.5", "gate.confidence"),
        ("gate.grid=[0.5, 1.0]", "gate.grid"),
        ("gate.grid=[]", "gate.grid"),
        ("gate.max_held=0", "gate.max_held"),
        ("gate.probation_tasks=-1", "gate.probation_tasks"),
        ("endpoints.port=70000", "endpoints.port"),
        ("process.shutdown_seconds=0", "process.shutdown_seconds"),
        ("process.num_threads=-1", "process.num_threads"),
        ("process.learning_niceness=20", "process.learning_niceness"),
        ("logging.level=loud", "logging.level"),
    ],
)
def test_a_value_against_a_rule_is_told_under_its_key(assignment: str, key: str) -> None:
    """Every section's own rules reach the user as dotted key, value, rule and fix."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(None, environment={}, assignments=[assignment])

    assert [key] == [problem.key for problem in caught.value.problems]


def test_what_differs_between_two_configurations_is_listed() -> None:
    """A reload says what it changed."""
    new = load_config(
        None, environment={}, assignments=["learning.epochs=3", "logging.level=error"]
    )

    assert ["learning.epochs", "logging.level"] == changed_keys(Config(), new)
    assert [] == changed_keys(Config(), Config())


def test_settings_that_decide_weights_come_back_from_the_log() -> None:
    """What a plan was made with can be built again from its entry."""
    config = load_config(None, environment={}, assignments=["learning.distillation.sigma=0.25"])
    entry = config.deciding.to_entry()

    assert config.deciding == DecidingConfig.from_entry(entry)
    assert asdict(config)["learning"] == entry["learning"]


def test_settings_of_an_older_log_mean_what_they_meant() -> None:
    """A limit that came later does not reject records of a plan that took them."""
    entry = Config().deciding.to_entry()
    del entry["decoding"]["max_header_bytes"]
    del entry["learning"]["optimizer"]["decay"]
    del entry["learning"]["distillation"]["dust"]
    del entry["learning"]["distillation"]["form"]
    del entry["learning"]["consolidation"]["least_retain"]

    settings = DecidingConfig.from_entry(entry)

    assert sys.maxsize == settings.decoding.max_header_bytes
    assert "none" == settings.learning.optimizer.decay
    assert "noise" == settings.learning.distillation.dust
    assert "fused" == settings.learning.distillation.form
    assert 0 == settings.learning.consolidation.least_retain
    assert Config().learning.distillation.flip_share == settings.learning.distillation.flip_share
    assert Config().decoding.max_pixels == settings.decoding.max_pixels


def test_sections_by_name_are_checked_key_by_key(tmp_path: Path) -> None:
    """A mirror's misspelt key, missing URL or broken rule is named with the mirror."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "publication: {mirrors: {a: {url: s3://b, option: {}}, b: {}, c: {url: bucket}}}\n"
    )

    with pytest.raises(ConfigurationError) as raised:
        load_config(path, environment={})

    assert {
        "publication.mirrors.a.option",
        "publication.mirrors.b.url",
        "publication.mirrors.c.url",
    } == {problem.key for problem in raised.value.problems}


def test_a_secret_of_a_mirror_may_come_from_the_environment() -> None:
    """Then it stands in no file at all."""
    environment = {
        "TEACHERD_PUBLICATION__MIRRORS__FAR__URL": "s3://bucket",
        "TEACHERD_PUBLICATION__MIRRORS__FAR__OPTIONS__SECRET": "s3cret",
    }

    mirror = load_config(None, environment=environment).publication.mirrors["far"]

    assert ("s3://bucket", {"secret": "s3cret"}) == (mirror.url, mirror.options)
