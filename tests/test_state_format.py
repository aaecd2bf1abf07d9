"""The state directory's format: older ones are taken over and gone on with, newer ones refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandLine, write_settings
from forked_daemon import ForkedDaemon
from lineages import open_state
from released_states import RELEASES, ReleasedState, unpack

from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.errors import ConfigurationError, ExitCode, StateError
from teacherd.daemon.replaying import replay_versions
from teacherd.daemon.runtime_facts import runtime_facts
from teacherd.daemon.state_format import (
    FORMAT_FILE,
    STATE_FORMAT,
    require_known_format,
    write_format,
)

NUM_TASKS = 5


@pytest.fixture(params=RELEASES)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> ReleasedState:
    """Give what one release left behind, unpacked into tmp_path."""
    return unpack(request.param, tmp_path)


@pytest.fixture
def daemon(released: ReleasedState, tmp_path: Path) -> Iterator[ForkedDaemon]:
    """Give today's daemon over it."""
    daemon = ForkedDaemon(released.settings, tmp_path)
    yield daemon
    daemon.close()


def runs_as_then(released: ReleasedState) -> bool:
    """Tell whether this machine gives the release's bits."""
    now = {**runtime_facts(torch.device("cpu")), "threads": "1"}
    return all(now.get(name) == fact for name, fact in released.runtime.items())


def test_what_a_release_left_behind_is_taken_over_and_gone_on_with(
    daemon: ForkedDaemon, released: ReleasedState, tmp_path: Path
) -> None:
    """The task that it was killed in, and the next: the same outcomes, on the same machine."""
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    outcomes = daemon.outcomes()

    assert STATE_FORMAT == require_known_format(tmp_path / "state")
    assert '"event": "state_upgraded"' in daemon.log_path.read_text()
    before = [(each["task"], each["result"], each["version"]) for each in released.continued]
    assert before == [(each.task, each.result, each.version) for each in outcomes]
    # The first three were decided by the release itself: an upgrade never changes those.
    decided = 3 if not runs_as_then(released) else NUM_TASKS
    shas = [each["sha256"] for each in released.continued]
    assert shas[:decided] == [each.sha256 for each in outcomes][:decided]


def test_what_a_release_learned_can_be_replayed(
    daemon: ForkedDaemon, released: ReleasedState
) -> None:
    """As it left it, and after this version has gone on with it."""
    config = parse(Config, released.settings, origin="test")
    options: dict[str, Any] = {"target": None, "start": None, "out": None}
    left = replay_versions(config, on_task=lambda _done, _total: None, **options)
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    gone_on = replay_versions(config, on_task=lambda _done, _total: None, **options)

    expected = "equal" if runs_as_then(released) else "other_runtime"
    assert (expected, 3) == (left.result, len(left.versions))
    assert (expected, NUM_TASKS) == (gone_on.result, len(gone_on.versions))


def test_a_new_state_directory_says_its_format(tmp_path: Path) -> None:
    """From the first start on, so that an older teacherd does not misread it."""
    open_state(tmp_path / "state").close()

    assert STATE_FORMAT == json.loads((tmp_path / "state" / FORMAT_FILE).read_text())["format"]


def test_a_newer_state_directory_is_refused_untouched(tmp_path: Path) -> None:
    """The message says which teacherd is needed."""
    open_state(tmp_path).close()
    newer = json.dumps({"format": STATE_FORMAT + 1, "teacherd": "7.8.9"})
    (tmp_path / FORMAT_FILE).write_text(newer)
    with pytest.raises(ConfigurationError, match=r"start teacherd 7\.8\.9") as caught:
        open_state(tmp_path)

    assert ExitCode.CONFIGURATION == caught.value.exit_code
    assert newer == (tmp_path / FORMAT_FILE).read_text()


def test_verbs_refuse_a_newer_state_directory_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Looking would show nonsense."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lineage.log").write_text("")
    newer = {"format": STATE_FORMAT + 1, "teacherd": "7.8.9"}
    (tmp_path / "state" / FORMAT_FILE).write_text(json.dumps(newer))
    config = write_settings(tmp_path, base=tmp_path)
    answer = CommandLine(capsys)("versions", "list", "--config", config)

    assert (78, "") == (answer.code, answer.out)
    assert f"has format {STATE_FORMAT + 1}, written by teacherd 7.8.9" in answer.err


@pytest.mark.parametrize("content", ["", "{}", '{"format": "x", "teacherd": "1"}', "\0"])
def test_a_damaged_format_is_no_old_one(tmp_path: Path, content: str) -> None:
    """Guessing could let an older teacherd write into a newer state."""
    write_format(tmp_path)
    (tmp_path / FORMAT_FILE).write_text(content)

    with pytest.raises(StateError, match="cannot be read: it is no format number"):
        require_known_format(tmp_path)
