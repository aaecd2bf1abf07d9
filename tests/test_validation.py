"""Validation: every problem of the files that a configuration names, at once, changing nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from base_models import CLASSES, NUM_FEATURES, untrained_base
from lineages import NOW, open_state

from teacherd.consumers.decoding import DecodingConfig
from teacherd.daemon.classes_config import ClassesConfig
from teacherd.daemon.config import Config, ModelConfig, ProcessConfig
from teacherd.daemon.errors import ConfigurationError
from teacherd.daemon.evaluation_sets import EvaluationConfig
from teacherd.daemon.mirror import MirrorConfig
from teacherd.daemon.notifications import NotificationsConfig
from teacherd.daemon.opening import open_lineage
from teacherd.daemon.publication import PublicationConfig
from teacherd.daemon.validation import validate_files
from teacherd.models.memory import MemoryConfig


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration whose files are all right."""
    inputs = np.zeros((2, NUM_FEATURES), dtype=np.float32)
    np.savez(tmp_path / "old.npz", inputs=inputs, labels=np.array([0, 2]))
    return Config(
        model=ModelConfig(base=str(untrained_base(tmp_path)), classes=CLASSES),
        process=ProcessConfig(state_directory=str(tmp_path / "state")),
        evaluation=EvaluationConfig(sets={"old": str(tmp_path / "old.npz")}),
    )


def problems(config: Config) -> list[str]:
    """Return the keys of what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        validate_files(config)

    return [problem.key for problem in caught.value.problems]


def test_good_files_are_valid_and_nothing_is_made(config: Config, tmp_path: Path) -> None:
    """A check before a start leaves no trace."""
    before = sorted(tmp_path.rglob("*"))
    validate_files(config)

    assert before == sorted(tmp_path.rglob("*"))


def test_every_problem_is_told_at_once(config: Config, tmp_path: Path) -> None:
    """State directory, classes, sets and decoder, in one message."""
    (tmp_path / "state").write_bytes(b"")
    wrong = replace(
        config,
        model=replace(config.model, classes=("emu", "owl")),
        evaluation=EvaluationConfig(sets={"a": "/nowhere/a.npz", "b": str(tmp_path)}),
        decoding=DecodingConfig(decoder="nowhere.at_all:decode"),
        publication=PublicationConfig(mirrors={"far": MirrorConfig(url="nosuch://bucket")}),
        notifications=NotificationsConfig(command=("no-such-command",)),
    )

    assert [
        "process.state_directory",
        "model.classes",
        "evaluation.sets.a",
        "evaluation.sets.b",
        "decoding.decoder",
        "publication.mirrors.far.url",
        "notifications.command",
    ] == problems(wrong)
    unsigned = PublicationConfig(signing_key_file="/nowhere")
    assert "publication.signing_key_file" in problems(replace(config, publication=unsigned))


def test_a_head_that_may_not_grow_is_told_where_classes_may_come(config: Config) -> None:
    """Else labels would wait and be dropped, and nobody would know why."""
    full = ClassesConfig(unknown="grow", max_total=len(CLASSES))
    validate_files(replace(config, classes=replace(full, max_total=len(CLASSES) + 1)))
    validate_files(replace(config, classes=replace(full, unknown="reject")))

    assert ["classes.max_total"] == problems(replace(config, classes=full))


def test_a_memory_without_room_for_an_instance_of_each_class_is_told(config: Config) -> None:
    """It would keep nothing, and only a gauge would say so."""
    enough = len(CLASSES) * NUM_FEATURES * 4

    def with_memory(**settings: int) -> Config:
        memory = MemoryConfig(**settings)
        return replace(config, learning=replace(config.learning, memory=memory))

    validate_files(with_memory(instances_per_class=5, max_bytes=enough))
    validate_files(with_memory(instances_per_class=0, max_bytes=1))
    with pytest.raises(ConfigurationError, match=f"take at least {enough}, or") as told:
        validate_files(with_memory(instances_per_class=5, max_bytes=enough - 1))

    assert ["learning.memory.max_bytes"] == [each.key for each in told.value.problems]


def test_without_a_base_model_there_is_nothing_to_hold_the_rest_against(
    config: Config, tmp_path: Path
) -> None:
    """Only what can be said without it is said."""
    (tmp_path / "state").write_bytes(b"")

    assert ["process.state_directory", "model.base"] == problems(
        replace(config, model=ModelConfig(base=str(tmp_path / "nowhere")))
    )


def test_a_lineage_that_has_begun_is_valid_without_its_base(config: Config, tmp_path: Path) -> None:
    """As the daemon starts without it: version 0 lies in the state directory."""
    state = open_state(tmp_path / "state")
    open_lineage(config.model, state, seed=7, now=NOW)
    state.close()
    shutil.rmtree(config.model.base)
    validate_files(config)

    assert ["model.classes"] == problems(
        replace(config, model=replace(config.model, classes=("emu", "owl")))
    )

    (tmp_path / "state" / "public" / "versions" / "000000" / "manifest.json").write_bytes(b"")

    assert ["process.state_directory"] == problems(config)
