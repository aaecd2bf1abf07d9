"""Rank 0 and a follower without a model, in processes that gloo joins."""

import threading
import time

import torch

from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import ExitCode, TemporaryError
from teacherd.daemon.following import Following
from teacherd.daemon.leader import Leader
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard
from teacherd.models.ranks import Ranks


def end(ranks: Ranks, told: int | None) -> tuple[ExitCode, bool]:
    """Let all end; return the exit code, and whether this rank was asked to stop by the others.

    Args:
        ranks: This one and the others.
        told: Which of them was told to end; None for none, as after a drain.
    """
    stop = threading.Event()
    try:
        if ranks.rank == 0:
            _lead(ranks, stop, is_told=told == 0)
        else:
            _follow(ranks, is_told=told == ranks.rank)
    except TemporaryError as error:
        return error.exit_code, stop.is_set()
    return ExitCode.OK, stop.is_set()


def _lead(ranks: Ranks, stop: threading.Event, *, is_told: bool) -> None:
    leader = Leader(
        ranks,
        draining=Draining(),
        stop=stop,
        on_reports=lambda _: None,
        monotonic=time.monotonic,
    )
    leader.ask()
    leader.dismiss(is_told=is_told)


def _follow(ranks: Ranks, *, is_told: bool) -> None:
    Following(
        ranks,
        device=torch.device("cpu"),
        buffer=TaskBuffer(TaskBufferConfig(), now=time.monotonic),
        begin_reading=lambda _: None,
        draining=Draining(),
        wants_stop=lambda: is_told,
        board=StatusBoard(monotonic=time.monotonic),
        metrics=Metrics(),
    ).run()
