"""What lies between two versions: from log and folders, beside a daemon that runs."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from base_models import untrained_base
from lineages import NOW, accept_task, next_plan, open_state

from teacherd.daemon.config import Config, ModelConfig, ProcessConfig
from teacherd.daemon.entries import Outcome
from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.opening import open_lineage
from teacherd.daemon.publisher import Publisher
from teacherd.daemon.state_directory import StateDirectory
from teacherd.daemon.version_difference import diff_versions
from teacherd.models.artifact import load_artifact, version_folder, write_artifact
from teacherd.models.provenance import Provenance


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return the configuration of a lineage."""
    return Config(
        model=ModelConfig(base=str(untrained_base(tmp_path))),
        process=ProcessConfig(state_directory=str(tmp_path / "state")),
    )


@pytest.fixture
def state(config: Config, tmp_path: Path) -> Iterator[StateDirectory]:
    """Hold the lock over versions 0 to 3, of which 2 is served."""
    state = open_state(tmp_path / "state")
    open_lineage(config.model, state, seed=7, now=NOW)
    state.journal.record_settings(config.deciding.to_entry())
    state.journal.record_runtime({"torch": "2.0"})
    accept_task(state)
    accept_task(state)
    accept_task(state, should_publish=False)
    yield state
    state.close()


def roll_back(state: StateDirectory, to: int) -> None:
    """Serve a version's weights again, as the command does."""
    publisher = Publisher(state.journal, state.versions, mode="automatic", now=lambda: NOW)
    publisher.roll_back(to, cause="request", reason="asked for")


def accept_with(state: StateDirectory, figures: dict[str, float]) -> None:
    """Accept one more version that was measured like this."""
    state.journal.record(next_plan(state))
    lineage = state.journal.lineage
    head = load_artifact(version_folder(state.versions.root, lineage.head))
    provenance = Provenance(
        lineage=lineage.id, version=lineage.next_version, parent=lineage.head, created_at=NOW
    )
    manifest = state.versions.write(
        lineage.next_version,
        lambda folder: write_artifact(folder, head.network, head.manifest.design, provenance),
    )
    state.journal.record(
        Outcome(
            task=lineage.num_tasks,
            result="accepted",
            version=manifest.version,
            sha256=manifest.weights_sha256,
            figures=figures,
        )
    )


def test_tasks_between_two_versions_are_what_was_learned(
    config: Config, state: StateDirectory
) -> None:
    """Oldest first, with their instances."""
    found = diff_versions(config, 1, 3)

    assert state.journal.lineage.head == 3
    assert (1, 3, 1) == (found["from"], found["to"], found["fork"])
    assert [(2, 2, 10, "count"), (3, 3, 10, "count")] == [
        (row["task"], row["version"], row["instances"], row["cause"]) for row in found["learned"]
    ]
    assert (20, 0, []) == (
        found["instances_learned"],
        found["instances_undone"],
        found["undone"],
    )


def test_backwards_they_are_undone(config: Config, state: StateDirectory) -> None:
    """What a rollback would take back."""
    found = diff_versions(config, 3, 1)

    assert state.journal.lineage.head == 3
    assert ([], [2, 3]) == (found["learned"], [row["task"] for row in found["undone"]])


def test_after_a_rollback_both_sides_have_tasks_of_their_own(
    config: Config, state: StateDirectory
) -> None:
    """They part where the older weights were taken up again."""
    roll_back(state, 1)
    accept_task(state)
    found = diff_versions(config, 3, 5)

    assert 1 == found["fork"]
    assert [[4], [2, 3]] == [[row["task"] for row in found[side]] for side in ("learned", "undone")]


@pytest.mark.parametrize(
    ("arguments", "compared"), [((None, None), (1, 2)), ((0, None), (0, 2)), ((0, 3), (0, 3))]
)
def test_what_is_not_named_is_the_served_version_and_its_parent(
    config: Config,
    state: StateDirectory,
    arguments: tuple[int | None, int | None],
    compared: tuple[int, int],
) -> None:
    """What was served newly, without looking up any number."""
    found = diff_versions(config, *arguments)

    assert 2 == state.journal.lineage.current
    assert compared == (found["from"], found["to"])


def test_weights_are_compared_by_module(config: Config, state: StateDirectory) -> None:
    """Each task of this lineage added 0.01 to every parameter."""
    before, after = (
        load_artifact(version_folder(state.versions.root, version)).network for version in (1, 3)
    )
    weights = diff_versions(config, 1, 3)["weights"]
    old, new = (
        torch.cat([each.flatten() for each in network.head.state_dict().values()])
        for network in (before, after)
    )

    assert {"features", "head"} == set(weights["modules"])
    assert (
        pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)
        == (weights["modules"]["head"]["relative_change"])
    )
    assert (1.0, 0) == (weights["changed_ratio"], weights["new_elements"])


def test_the_weights_of_a_rollback_are_those_it_went_back_to(
    config: Config, state: StateDirectory
) -> None:
    """The same, though the number is another."""
    roll_back(state, 1)
    found = diff_versions(config, 1, 4)

    assert found["is_same"]
    assert (0.0, 0.0) == (found["weights"]["relative_change"], found["weights"]["changed_ratio"])


def test_weights_that_were_removed_are_not_compared(config: Config, state: StateDirectory) -> None:
    """The log has the rest."""
    shutil.rmtree(version_folder(state.versions.root, 1))
    found = diff_versions(config, 1, 3)

    assert found["weights"] is None
    assert [None, True] == [size if size is None else size > 0 for size in found["bytes"]]
    assert [2, 3] == [row["task"] for row in found["learned"]]


def test_accuracy_is_what_was_measured_then(config: Config, state: StateDirectory) -> None:
    """On sets that only one was measured on it is missing; holdouts need both."""
    accept_with(state, {"accuracy.a": 0.8, "forgetting.a": 0.1, "holdout.3": 0.5, "holdout.4": 1})
    accept_with(state, {"accuracy.a": 0.7, "accuracy.b": 0.2, "loss.total": 3, "holdout.3": 0.6})

    assert {
        "accuracy.a": [0.8, 0.7],
        "accuracy.b": [None, 0.2],
        "forgetting.a": [0.1, None],
        "holdout.3": [0.5, 0.6],
    } == diff_versions(config, 4, 5)["figures"]


def test_version_0_is_known_by_what_others_have_forgotten(
    config: Config, state: StateDirectory
) -> None:
    """It has no outcome; forgetting is measured against it."""
    accept_with(state, {"accuracy.a": 0.75, "forgetting.a": 0.125})

    assert {"accuracy.a": [0.875, 0.75], "forgetting.a": [0.0, 0.125]} == diff_versions(
        config, 0, 4
    )["figures"]


def test_settings_that_differ_are_told_by_key(config: Config, state: StateDirectory) -> None:
    """Those in force when each was learned, and what bits depend on besides."""
    other = replace(config, learning=replace(config.learning, epochs=3))
    state.journal.record_settings(other.deciding.to_entry())
    state.journal.record_runtime({"torch": "2.1"})
    accept_task(state)
    found = diff_versions(config, 3, 4)

    assert {"learning.epochs": [config.learning.epochs, 3]} == found["settings"]
    assert {"torch": ["2.0", "2.1"]} == found["runtime"]
    assert {} == diff_versions(config, 1, 3)["settings"]
    assert {} == diff_versions(config, 0, 3)["settings"]  # none decided version 0


def test_a_version_that_never_was_is_told(config: Config, state: StateDirectory) -> None:
    """With those that are."""
    assert not state.journal.is_new
    for versions in ((9, None), (0, 9)):
        with pytest.raises(UsageError, match="no version 9; versions go from 0 to 3"):
            diff_versions(config, *versions)


def test_version_0_has_nothing_to_be_compared_with(config: Config, tmp_path: Path) -> None:
    """A fresh lineage: two must be named."""
    state = open_state(tmp_path / "state")
    open_lineage(config.model, state, seed=7, now=NOW)
    state.close()

    with pytest.raises(UsageError, match="version 0 has no parent"):
        diff_versions(config, None, None)


def test_damaged_weights_are_told(config: Config, state: StateDirectory) -> None:
    """Never a distance of what is not the version."""
    folder = version_folder(state.versions.root, 1)
    weights = folder / "teacher.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    with pytest.raises(StateError, match="000001"):
        diff_versions(config, 1, 2)

    shutil.rmtree(folder)
    shutil.copytree(version_folder(state.versions.root, 2), folder)
    with pytest.raises(StateError, match="not those of the lineage log"):
        diff_versions(config, 1, 2)
