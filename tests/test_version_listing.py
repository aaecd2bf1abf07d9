"""The versions verbs: what the log and the folders say, beside a daemon that runs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_models import untrained_base
from lineages import NOW, accept_task, next_plan, open_state

from teacherd.daemon.config import Config, ModelConfig, ProcessConfig
from teacherd.daemon.entries import Outcome, Retry
from teacherd.daemon.errors import StateError, UsageError
from teacherd.daemon.opening import open_lineage
from teacherd.daemon.publisher import Publisher
from teacherd.daemon.state_directory import StateDirectory
from teacherd.daemon.version_listing import list_versions, show_version, verify_versions
from teacherd.models.artifact import version_folder


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return the configuration of a lineage."""
    return Config(
        model=ModelConfig(base=str(untrained_base(tmp_path))),
        process=ProcessConfig(state_directory=str(tmp_path / "state")),
    )


@pytest.fixture
def state(config: Config, tmp_path: Path) -> Iterator[StateDirectory]:
    """Hold the lock, as a running daemon does, over versions 0 to 2 of which 1 is served."""
    state = open_state(tmp_path / "state")
    open_lineage(config.model, state, seed=7, now=NOW)
    accept_task(state)
    accept_task(state, should_publish=False)
    yield state
    state.close()


def folder(state: StateDirectory, version: int) -> Path:
    """Return a version's folder."""
    return version_folder(state.versions.root, version)


def states(config: Config, number: int | None = None) -> dict[int, str]:
    """Return what verification says, by version."""
    return {row["version"]: row["state"] for row in verify_versions(config, number)}


def test_every_accepted_version_is_listed(config: Config, state: StateDirectory) -> None:
    """Where it came from, and what it is to those who load and learn."""
    rows = list_versions(config)

    assert [(0, None, None), (1, 0, 1), (2, 1, 2)] == [
        (row["version"], row["parent"], row["task"]) for row in rows
    ]
    assert ["", "current", "head"] == [row["state"] for row in rows]
    assert [None, 10, 10] == [row["instances"] for row in rows]
    assert [None, 0.25, 0.25] == [row["outer_ratio"] for row in rows]
    assert {NOW} == {row["written_at"] for row in rows}
    assert state.journal.lineage.versions[2].sha256 == rows[2]["sha256"]


def test_a_task_that_was_held_is_no_version(config: Config, state: StateDirectory) -> None:
    """The next accepted one is shown with its own plan."""
    state.journal.record(next_plan(state))
    state.journal.record(Outcome(task=3, result="held", reasons=("not finite",)))
    accept_task(state)

    assert 4 == list_versions(config)[3]["task"]
    assert 30 == show_version(config, 3)["plan"]["ranges"][0]["start"]


def test_a_task_that_was_tried_again_is_shown_with_its_own_plan(
    config: Config, state: StateDirectory
) -> None:
    """As it was learned in the end, though others were planned since."""
    state.journal.record(next_plan(state))
    state.journal.record(Outcome(task=3, result="held", reasons=("not finite",)))
    accept_task(state)
    state.journal.record(
        Retry(task=3, attempt=2, head=3, learning_rate=0.01, cause="request", reason="held")
    )
    accept_task(state)
    shown = show_version(config, 4)

    assert (3, 20, 0.01) == (
        shown["plan"]["task"],
        shown["plan"]["ranges"][0]["start"],
        shown["plan"]["learning_rate"],
    )


def test_a_version_that_a_rollback_made_is_of_that_moment(
    config: Config, state: StateDirectory
) -> None:
    """It was learned by no task."""
    later = "2031-02-03T04:05:06.000+00:00"
    publisher = Publisher(state.journal, state.versions, mode="automatic", now=lambda: later)
    state.journal._log._now = lambda: later
    publisher.roll_back(0, cause="request", reason="asked for")

    assert (later, None) == tuple(list_versions(config)[3][each] for each in ("written_at", "task"))


def test_a_version_is_shown_with_plan_outcome_and_manifest(
    config: Config, state: StateDirectory
) -> None:
    """Everything that decided it."""
    shown = show_version(config, 2)

    assert "head" == shown["state"]
    assert 10 == shown["plan"]["ranges"][0]["start"]
    assert (2, NOW) == (shown["outcome"]["version"], shown["outcome"]["at"])
    assert state.journal.lineage.id == shown["manifest"]["lineage"]


def test_version_0_has_no_plan(config: Config, state: StateDirectory) -> None:
    """It was adopted, not learned."""
    assert state.journal.lineage.current == 1
    assert {"state", "classes", "manifest"} == set(show_version(config, 0))


def test_a_pruned_version_is_shown_without_manifest(config: Config, state: StateDirectory) -> None:
    """The log still knows what it was."""
    accept_task(state)
    shutil.rmtree(folder(state, 2))
    shown = show_version(config, 2)

    assert "pruned" == shown["state"]
    assert "manifest" not in shown
    assert 2 == shown["outcome"]["version"]


def test_a_manifest_that_cannot_be_read_is_told(config: Config, state: StateDirectory) -> None:
    """Exit 74 with the folder's name."""
    (folder(state, 1) / "manifest.json").write_bytes(b"{")

    with pytest.raises(StateError, match="000001"):
        show_version(config, 1)


def test_whole_versions_are_good(config: Config, state: StateDirectory) -> None:
    """Each of them, or the one that was asked for."""
    assert {0: "good", 1: "good", 2: "good"} == states(config)
    assert {1: "good"} == states(config, state.journal.lineage.current)


@pytest.mark.parametrize("file", ["manifest.json", "teacher.safetensors"])
def test_a_damaged_version_is_bad(config: Config, state: StateDirectory, file: str) -> None:
    """And the others are looked at all the same."""
    path = folder(state, 1) / file
    path.write_bytes(path.read_bytes()[:-2])

    assert {0: "good", 1: "bad", 2: "good"} == states(config)


def test_a_version_that_is_not_the_logs_is_bad(config: Config, state: StateDirectory) -> None:
    """Whole in itself, but other weights than those that were accepted."""
    shutil.rmtree(folder(state, 1))
    shutil.copytree(folder(state, 2), folder(state, 1))
    rows = verify_versions(config, 1)

    assert [("bad", "its sha256 is not the lineage log's")] == [
        (row["state"], row["reason"]) for row in rows
    ]


def test_a_missing_version_is_pruned_or_lost(config: Config, state: StateDirectory) -> None:
    """Version 0, head, the served one and the one before it are never pruned: else it is wrong."""
    accept_task(state)
    for version in range(4):
        shutil.rmtree(folder(state, version))

    assert {0: "bad", 1: "bad", 2: "pruned", 3: "bad"} == states(config)


@pytest.mark.parametrize("verb", [show_version, verify_versions])
def test_a_version_that_never_was_is_told(
    config: Config,
    state: StateDirectory,
    verb: object,
) -> None:
    """With those that are."""
    assert callable(verb)
    assert 2 == state.journal.lineage.head
    with pytest.raises(UsageError, match="no version 9; versions go from 0 to 2"):
        verb(config, 9)


@pytest.mark.parametrize("verb", [list_versions, lambda config: verify_versions(config, None)])
def test_a_directory_without_a_lineage_is_told(config: Config, verb: object) -> None:
    """Probably the wrong directory, or too early."""
    assert callable(verb)
    with pytest.raises(UsageError, match="holds no lineage yet"):
        verb(config)


def test_a_damaged_log_is_told(config: Config, state: StateDirectory, tmp_path: Path) -> None:
    """Never a shorter list that looks complete."""
    assert 3 == len(list_versions(config))
    log = tmp_path / "state" / "lineage.log"
    log.write_bytes(log.read_bytes().replace(b'"version":1', b'"version":7', 1))

    with pytest.raises(StateError, match=r"lineage\.log: line \d is damaged"):
        list_versions(config)
    with pytest.raises(StateError, match="damaged"):
        verify_versions(config, None)
    assert not state.journal.is_new
