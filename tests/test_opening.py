"""How a lineage begins and is found again: from the base it was told, and from no other."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from base_models import CLASSES, untrained_base
from lineages import NOW, accept_task, next_plan, open_state, write_next_version

from teacherd.daemon.config import ModelConfig
from teacherd.daemon.entries import Open, Outcome, Publish
from teacherd.daemon.errors import ConfigurationError, ExitCode, StateError
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.daemon.opening import load_base, load_head, open_lineage
from teacherd.daemon.state_directory import LINEAGE_LOG, StateDirectory
from teacherd.models.artifact import load_artifact, read_manifest, version_folder

CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path) -> ModelConfig:
    """Return the configuration of a base model."""
    return ModelConfig(base=str(untrained_base(tmp_path)))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """Open an empty state directory."""
    state = open_state(tmp_path / "state")
    yield state
    state.close()


def open_again(state: StateDirectory, config: ModelConfig) -> None:
    """Do what the next start does."""
    open_lineage(config, state, seed=99, now="2031-01-01T00:00:00.000+00:00")


def served(state: StateDirectory) -> int | None:
    """Return the version that `current` leads to, verified."""
    pointer = state.versions.served()
    if pointer is None:
        return None
    folder = state.versions.root / pointer.folder
    assert read_manifest(folder, sha256=pointer.manifest_sha256)
    return pointer.version


def test_the_base_becomes_version_0_and_is_served(state: StateDirectory, base: ModelConfig) -> None:
    """Inference processes have something to load before the first task."""
    open_lineage(base, state, seed=7, now=NOW)
    opening = state.journal.lineage.opening

    log = state.versions.root.parent / LINEAGE_LOG

    assert opening is not None
    assert (7, CLASSES) == (opening.seed, opening.classes)
    assert read_manifest(Path(base.base)).weights_sha256 == opening.sha256
    assert opening.lineage == load_artifact(version_folder(state.versions.root, 0)).manifest.lineage
    assert [Open, Publish] == [type(logged.entry) for logged in read_lineage_log(log)]
    assert 0 == served(state)


def test_a_lineage_goes_on_as_it_began(state: StateDirectory, base: ModelConfig) -> None:
    """The next start writes nothing, whatever seed it is told."""
    open_lineage(base, state, seed=7, now=NOW)
    pin = state.journal.pin
    open_again(state, base)

    assert pin == state.journal.pin
    assert 7 == (state.journal.lineage.opening or pytest.fail("not open")).seed


def test_two_lineages_of_one_base_differ_in_their_id(tmp_path: Path, base: ModelConfig) -> None:
    """Their records and versions can never be taken for each other's."""
    ids = []
    for name in ("a", "b"):
        state = open_state(tmp_path / name)
        open_lineage(base, state, seed=7, now=NOW)
        ids.append(state.journal.lineage.id)
        state.close()

    assert ids[0] != ids[1]


def test_the_head_is_what_the_next_task_starts_from(
    state: StateDirectory, base: ModelConfig
) -> None:
    """Also when another version is served."""
    open_lineage(base, state, seed=7, now=NOW)
    manifest = accept_task(state, should_publish=False)

    assert manifest == load_head(state, base, device=CPU).manifest
    assert 0 == served(state)


def test_a_damaged_head_is_told_from_a_wrong_configuration(
    state: StateDirectory, base: ModelConfig
) -> None:
    """Exit 74: the directory needs a backup, not another setting."""
    open_lineage(base, state, seed=7, now=NOW)
    accept_task(state)
    weights = version_folder(state.versions.root, 1) / "teacher.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(StateError, match="000001") as caught:
        load_head(state, base, device=CPU)

    assert ExitCode.STATE == caught.value.exit_code


def test_a_crash_before_the_open_entry_costs_nothing(tmp_path: Path, base: ModelConfig) -> None:
    """Version 0's folder was there, its entry was not: the next start begins anew."""
    state = open_state(tmp_path / "state")
    shutil.copytree(base.base, version_folder(state.versions.root, 0))
    state.close()
    state = open_state(tmp_path / "state")
    open_lineage(base, state, seed=7, now=NOW)

    assert 0 == served(state)
    assert state.journal.lineage.id == load_head(state, base, device=CPU).manifest.lineage
    state.close()


def test_a_crash_before_the_first_publish_is_made_up_for(tmp_path: Path, base: ModelConfig) -> None:
    """A lineage that is open and serves nothing serves version 0."""
    state = open_state(tmp_path / "state")
    open_lineage(base, state, seed=7, now=NOW)
    state.close()
    log = tmp_path / "state" / "lineage.log"
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    (tmp_path / "state" / "public" / "current").unlink()

    state = open_state(tmp_path / "state")
    open_again(state, base)

    assert 0 == state.journal.lineage.current
    assert 0 == served(state)
    state.close()


def test_a_crash_between_outcome_and_publish_is_made_up_for(
    state: StateDirectory, base: ModelConfig
) -> None:
    """What was accepted to be served is served after the next start."""
    open_lineage(base, state, seed=7, now=NOW)
    state.journal.record(next_plan(state))
    manifest = write_next_version(state)
    state.journal.record(
        Outcome(
            task=1,
            result="accepted",
            version=1,
            sha256=manifest.weights_sha256,
            should_publish=True,
        )
    )
    open_again(state, base)

    assert 1 == state.journal.lineage.current
    assert 1 == served(state)


def test_what_was_not_to_be_served_is_not(state: StateDirectory, base: ModelConfig) -> None:
    """A start publishes nothing of its own accord."""
    open_lineage(base, state, seed=7, now=NOW)
    accept_task(state, should_publish=False)
    open_again(state, base)

    assert 0 == state.journal.lineage.current
    assert 0 == served(state)


@pytest.mark.parametrize("damage", ["missing", "junk", "older", "digest"])
def test_current_follows_the_log(state: StateDirectory, base: ModelConfig, damage: str) -> None:
    """Whatever became of the pointer, after a start it leads to what the log says."""
    open_lineage(base, state, seed=7, now=NOW)
    current = state.versions.root / "current"
    older = current.read_bytes()
    manifest = accept_task(state)
    right = current.read_bytes()
    digest = right[right.index(b'manifest_sha256": "') + 19 :][:8]
    if damage == "missing":
        current.unlink()
    else:
        current.write_bytes(
            {"junk": b"{", "older": older, "digest": right.replace(digest, b"00000000")}[damage]
        )
    open_again(state, base)

    assert right == current.read_bytes()
    assert state.versions.serves(manifest)


def test_another_base_is_refused(state: StateDirectory, base: ModelConfig, tmp_path: Path) -> None:
    """A lineage does not change its origin; the fix is a state directory of its own."""
    open_lineage(base, state, seed=7, now=NOW)
    other = ModelConfig(base=str(untrained_base(tmp_path, name="other", seed=1)))

    with pytest.raises(
        ConfigurationError, match=r"model\.base: .*other is not version 0"
    ) as caught:
        open_again(state, other)

    assert ExitCode.CONFIGURATION == caught.value.exit_code


def test_a_lineage_needs_its_base_folder_no_more(state: StateDirectory, base: ModelConfig) -> None:
    """Version 0 is in the state directory."""
    open_lineage(base, state, seed=7, now=NOW)
    shutil.rmtree(base.base)
    open_again(state, base)

    assert 0 == load_head(state, base, device=CPU).manifest.version


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (("cat", "dog"), r"lacks \[\] and has \['owl'\] besides"),
        (("cat", "dog", "emu"), r"lacks \['emu'\] and has \['owl'\] besides"),
        (("dog", "cat", "owl"), "the order differs"),
    ],
)
def test_other_classes_than_the_configurations_are_refused(
    state: StateDirectory, base: ModelConfig, classes: tuple[str, ...], reason: str
) -> None:
    """At the beginning and at every later start; nothing is opened."""
    config = ModelConfig(base=base.base, classes=classes)

    with pytest.raises(ConfigurationError, match=rf"model\.classes: .*{reason}"):
        open_lineage(config, state, seed=7, now=NOW)
    assert state.journal.is_new

    open_lineage(base, state, seed=7, now=NOW)
    with pytest.raises(ConfigurationError, match=r"model\.classes"):
        load_head(state, config, device=CPU)


def test_the_configurations_own_classes_are_fine(state: StateDirectory, base: ModelConfig) -> None:
    """Same names, same order."""
    open_lineage(ModelConfig(base=base.base, classes=CLASSES), state, seed=7, now=NOW)

    assert not state.journal.is_new


def test_a_missing_base_is_told_with_the_ways_to_make_one(tmp_path: Path) -> None:
    """Most first starts end here."""
    with pytest.raises(ConfigurationError, match=r"model\.base: .*teacherd adopt.*pretrain"):
        load_base(ModelConfig(base=str(tmp_path / "nowhere")))


def test_a_damaged_base_is_told(base: ModelConfig) -> None:
    """Nothing unverified becomes version 0."""
    (Path(base.base) / "teacher.safetensors").write_bytes(b"")

    with pytest.raises(ConfigurationError, match=r"model\.base: .*teacher\.safetensors"):
        load_base(base)
