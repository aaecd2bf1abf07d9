"""Tests of what several ranks need, and of what is refused before any of them waits for another."""

from dataclasses import replace

import pytest

from teacherd.consumers.task_buffer import TaskBufferConfig
from teacherd.daemon.config import Config, ProcessConfig
from teacherd.daemon.errors import ConfigurationError, ExitCode, TeacherdError
from teacherd.daemon.joining import device_of_rank, join, rank_of, rank_problems
from teacherd.daemon.rank_start import require_same_settings, shared_settings
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.ranks import ALONE, DivergedError, RankLostError, RanksRefusedError

TWO_HERE = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
TWO_HOSTS = {**TWO_HERE, "LOCAL_WORLD_SIZE": "1"}
CPU = ProcessConfig(device="cpu")


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_without_torchrun_or_with_one_rank_a_process_is_alone(environment: dict[str, str]) -> None:
    """No process group is started, and events name no rank."""
    assert ALONE == join(Config(), environment)
    assert rank_of(environment) is None


@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [
        (
            Config(process=replace(CPU, shutdown_seconds=30.0)),
            TWO_HERE,
            "process.shutdown_seconds: 30.0: must be below 30, after which torchrun kills; take 25",
        ),
        (
            Config(process=CPU),
            TWO_HOSTS,
            "source: stream_log: is a file of one machine, and of 2 ranks 1 run here; take kafka",
        ),
        (
            Config(process=CPU, learning=LearnerConfig(batch_norm="train")),
            TWO_HERE,
            "learning.batch_norm: train: BatchNorm would take its statistics from a rank's share",
        ),
        (
            Config(process=replace(CPU, device="cuda:1")),
            TWO_HERE,
            "process.device: cuda:1: each rank has a device of its own; take cuda or cpu",
        ),
    ],
)
def test_what_several_ranks_cannot_have_is_refused(
    config: Config, environment: dict[str, str], expected: str
) -> None:
    """With key, value, rule and fix, before anybody waits."""
    with pytest.raises(ConfigurationError) as caught:
        join(config, environment)

    assert expected in str(caught.value)


def test_a_standby_of_several_ranks_is_refused() -> None:
    """Each of them would wait for the other's."""
    with pytest.raises(ConfigurationError, match=r"--standby: cannot be had with several ranks"):
        join(Config(process=CPU), TWO_HERE, is_standby=True)


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [("cuda", TWO_HERE, "cuda:1"), ("cuda", {}, "cuda"), ("cpu", TWO_HERE, "cpu")],
)
def test_each_rank_of_a_machine_has_a_gpu_of_its_own(
    name: str, environment: dict[str, str], expected: str
) -> None:
    """By its number there; alone it takes what torch takes."""
    assert expected == device_of_rank(name, environment)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RankLostError("gone"), ExitCode.TEMPORARY),
        (DivergedError(3, [1]), ExitCode.INTERNAL),
        (RanksRefusedError("learning.batch_norm", "train: no"), ExitCode.CONFIGURATION),
    ],
)
def test_what_goes_wrong_between_ranks_has_an_exit_code(error: Exception, code: ExitCode) -> None:
    """And the message says what it was."""
    with pytest.raises(TeacherdError) as caught, rank_problems():
        raise error

    assert code == caught.value.exit_code
    assert str(error) in str(caught.value)


def test_ranks_with_other_settings_are_refused() -> None:
    """Every key that must be the same and is not; whatever else may differ."""
    mine = Config(tasks=TaskBufferConfig(instances=7, min_instances=3))
    require_same_settings(replace(mine, process=CPU), shared_settings(mine))

    with pytest.raises(ConfigurationError) as caught:
        require_same_settings(Config(), shared_settings(mine))

    keys = [problem.key for problem in caught.value.problems]
    assert ["tasks.instances", "tasks.min_instances"] == keys
    assert "2000: rank 0 has 7; give all ranks the same" in str(caught.value)
