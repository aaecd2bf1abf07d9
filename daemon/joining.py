"""Joins the processes that torchrun has started to the ranks that learn one model."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import structlog
import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from teacherd.daemon.config import Config
from teacherd.daemon.errors import ConfigurationError, ExitCode, Problem, TeacherdError
from teacherd.daemon.meeting import meet
from teacherd.models.ranks import (
    ALONE,
    TRAINS_STATISTICS,
    DivergedError,
    RankLostError,
    Ranks,
    RanksRefusedError,
    rank_errors,
)

_START_SECONDS = 300.0
"""Longest time between the starts of two ranks."""
_PR_SET_PDEATHSIG = 1
_TORCHRUN_KILLS_SECONDS = 30.0
"""After it has told its processes to end."""


class LostRankError(TeacherdError):
    """Another rank is gone, or hangs; torchrun starts all of them again."""

    exit_code = ExitCode.TEMPORARY


class UnequalRanksError(TeacherdError):
    """Ranks came to different weights."""

    exit_code = ExitCode.INTERNAL


def join(config: Config, environment: Mapping[str, str], *, is_standby: bool = False) -> Ranks:
    """Join the other ranks, if torchrun says that there are any; else this process is alone.

    Raises:
        ConfigurationError: Something in the settings cannot be had with several ranks.
        LostRankError: The others did not come.
    """
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    require_joinable(config, environment, is_standby=is_standby)
    _end_with_parent()
    with rank_problems(), rank_errors():
        store, rank, size = next(rendezvous("env://"))
        # Some may take minutes to start; only then does the short time begin in which one has to
        # answer another.
        store = meet(store, rank, size, seconds=_START_SECONDS)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if is_on_gpu(config) else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=config.process.rank_timeout_seconds),
        )
    ranks = Ranks.of_process()
    structlog.get_logger().info("joined", size=ranks.size, process=os.getpid())
    return ranks


def require_joinable(
    config: Config, environment: Mapping[str, str], *, is_standby: bool = False
) -> None:
    """Refuse what cannot be had with several ranks.

    Raises:
        ConfigurationError: Carries every problem found.
    """
    problems = _problems(config, environment, is_standby=is_standby)
    if problems:
        raise ConfigurationError(problems)


def rank_of(environment: Mapping[str, str]) -> int | None:
    """Return which of several ranks torchrun says this process is; None if it is alone."""
    is_alone = int(environment.get("WORLD_SIZE", "1")) == 1
    return None if is_alone else int(environment["RANK"])


def device_of_rank(name: str, environment: Mapping[str, str]) -> str:
    """Return the device of this rank: the one of its number where the machine has several."""
    is_any = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    if is_any and int(environment.get("WORLD_SIZE", "1")) > 1:
        return f"cuda:{environment.get('LOCAL_RANK', '0')}"
    return name


def is_on_gpu(config: Config) -> bool:
    """Whether gradients are summed up between GPUs."""
    name = config.process.device
    return name.startswith("cuda") or (name == "auto" and torch.cuda.is_available())


@contextmanager
def rank_problems() -> Iterator[None]:
    """Give what the models say about other ranks its exit code.

    Raises:
        LostRankError: One is gone.
        UnequalRanksError: One has other weights.
        ConfigurationError: Several ranks would learn something else than one.
    """
    try:
        yield
    except RankLostError as error:
        raise LostRankError(str(error)) from error
    except DivergedError as error:
        raise UnequalRanksError(str(error)) from error
    except RanksRefusedError as error:
        raise ConfigurationError([Problem(error.key, error.message)]) from error


def _end_with_parent() -> None:
    """Have the kernel tell this process to end when torchrun is killed: nobody else would."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _problems(config: Config, environment: Mapping[str, str], *, is_standby: bool) -> list[Problem]:
    """Return what cannot be had with several ranks, each with its fix."""
    problems = []
    if is_standby:
        problems.append(
            Problem(
                "--standby",
                "cannot be had with several ranks: torchrun would start N that "
                "wait; let its own restarts do it, or run one process",
            )
        )
    if config.process.shutdown_seconds >= _TORCHRUN_KILLS_SECONDS:
        problems.append(
            Problem(
                "process.shutdown_seconds",
                f"{config.process.shutdown_seconds}: must be below {_TORCHRUN_KILLS_SECONDS:g}, "
                "after which torchrun kills; take 25",
            )
        )
    if config.learning.batch_norm == "train":
        problems.append(Problem("learning.batch_norm", TRAINS_STATISTICS))
    size, local_size = (
        int(environment.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if config.source == "stream_log" and size != local_size:
        problems.append(
            Problem(
                "source",
                f"stream_log: is a file of one machine, and of {size} ranks {local_size} run here; "
                "take kafka, or --nnodes 1",
            )
        )
    name = config.process.device
    if ":" in name:
        problems.append(
            Problem(
                "process.device", f"{name}: each rank has a device of its own; take cuda or cpu"
            )
        )
    elif is_on_gpu(config) and torch.cuda.device_count() < local_size:
        problems.append(
            Problem(
                "process.device",
                f"{name}: {local_size} ranks run here, on {torch.cuda.device_count()} GPUs; start "
                "one for each GPU, or take cpu",
            )
        )
    return problems
