"""Rank 0 and those that follow it, in processes that gloo joins."""

import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from buffering import BAD, append, build_decoder
from records import at_offsets
from tiny_networks import feature_task
from torch import Tensor

from teacherd.consumers.task_buffer import TaskBuffer, TaskBufferConfig
from teacherd.daemon.draining import Draining
from teacherd.daemon.errors import ExitCode, TemporaryError, UnavailableError
from teacherd.daemon.following import Following
from teacherd.daemon.leader import Leader
from teacherd.daemon.leading_buffer import LeadingBuffer
from teacherd.daemon.leading_learner import LeadingLearner
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.stop_rule import StopRule, TakenIn
from teacherd.models.artifact import load_artifact
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.ranks import Ranks
from teacherd.models.task import Schedule

_FOUR_RECORDS = TaskBufferConfig(instances=4, min_instances=4, max_records=4)


@dataclass
class Rank:
    """What a rank has of its own."""

    ranks: Ranks
    stop: threading.Event = field(default_factory=threading.Event)
    draining: Draining = field(default_factory=Draining)
    taken_in: TakenIn = field(default_factory=TakenIn)

    def leader(self) -> Leader:
        """Return rank 0's end of the channel."""
        return Leader(
            self.ranks,
            draining=self.draining,
            stop=self.stop,
            stop_rule=StopRule(max_share=0.5, window_records=4),
            taken_in=self.taken_in,
            on_reports=lambda _: None,
            monotonic=time.monotonic,
        )

    def following(self, *, buffer: TaskBuffer | None = None, is_told: bool = False) -> Following:
        """Return another's end."""
        return Following(
            self.ranks,
            device=torch.device("cpu"),
            buffer=buffer or TaskBuffer(TaskBufferConfig(), now=time.monotonic),
            begin_reading=lambda _: None,
            draining=self.draining,
            wants_stop=lambda: is_told,
            taken_in=self.taken_in,
            board=StatusBoard(monotonic=time.monotonic),
            metrics=Metrics(),
        )


def end(ranks: Ranks, told: int | None, *, has_failed: bool = False) -> tuple[ExitCode, bool]:
    """Let all end; return the exit code, and whether this rank was asked to stop by the others.

    Args:
        ranks: This one and the others.
        told: Which of them was told to end; None for none, as after a drain.
        has_failed: Whether something of rank 0 has.
    """
    one = Rank(ranks)
    try:
        if ranks.rank == 0:
            leader = one.leader()
            leader.ask()
            leader.dismiss(is_told=told == 0, has_failed=has_failed)
        else:
            one.following(is_told=told == ranks.rank).run()
    except TemporaryError as error:
        return error.exit_code, one.stop.is_set()
    return ExitCode.OK, one.stop.is_set()


def fill(ranks: Ranks) -> tuple[bool, str | None, int, bool]:
    """Let all that may wait be with rank 1, and nothing of it be an instance.

    Returns whether rank 0 may take records, why it cuts, how many records it then has, and whether
    it may take some afterwards.
    """
    one = Rank(ranks)
    if ranks.rank:
        buffer = TaskBuffer(_FOUR_RECORDS, now=time.monotonic)
        with closing(buffer), closing(build_decoder()) as decoder:
            append(buffer, decoder, at_offsets([BAD] * 4))
            one.following(buffer=buffer).run()
        return False, None, 0, False
    leader = one.leader()
    with closing(LeadingBuffer(_FOUR_RECORDS, leader=leader, now=time.monotonic)) as leading:
        leader.ask()
        is_full, cause = leading.is_full, leading.wait_for_cut(0.0)
        task = leading.cut(cause or "drain")
        is_full_after = leading.is_full
        leader.dismiss(is_told=False, has_failed=False)
    return not is_full, cause, task.num_records, not is_full_after


def fill_with(ranks: Ranks) -> bool:
    """Let all that may wait be with rank 0; return whether this rank may take records."""
    one = Rank(ranks)
    if ranks.rank:
        buffer = TaskBuffer(_FOUR_RECORDS, now=time.monotonic)
        with closing(buffer):
            one.following(buffer=buffer).run()
            return not buffer.is_full
    leader = one.leader()
    leading = LeadingBuffer(_FOUR_RECORDS, leader=leader, now=time.monotonic)
    with closing(leading), closing(build_decoder()) as decoder:
        append(leading, decoder, at_offsets([BAD] * 4))
        leader.ask()
        leader.dismiss(is_told=False, has_failed=False)
        return not leading.is_full


def reject(ranks: Ranks, counts: tuple[tuple[int, int], ...]) -> str:
    """Let each rank have read records and rejected some; return why rank 0 reads no further."""
    one = Rank(ranks)
    one.taken_in.observe(*counts[ranks.rank])
    if ranks.rank:
        one.following().run()
        return ""
    leader, reason = one.leader(), ""
    with closing(LeadingBuffer(_FOUR_RECORDS, leader=leader, now=time.monotonic)) as leading:
        try:
            leading.wait_for_cut(0.0)
        except UnavailableError as error:
            reason = str(error)
        leader.dismiss(is_told=False, has_failed=False)
    return reason


def restore_unfit(ranks: Ranks, base: Path) -> Tensor:
    """Try to go on from another task's checkpoint, then begin anew; return rank 0's weights.

    Args:
        ranks: This one and the others.
        base: A base model of four features and three classes.
    """
    one = Rank(ranks)
    if ranks.rank:
        one.following().run()
        return torch.empty(0)
    leader, head = one.leader(), load_artifact(base)
    learner = LeadingLearner(
        LearnerConfig(),
        teacher=head.network,
        preprocessing=head.manifest.preprocessing,
        sigma=1.0,
        device=torch.device("cpu"),
        leader=leader,
        manifest=head.manifest,
        increments=(3,),
    )
    schedule = Schedule(seed=3, epochs=2, learning_rate=0.01)
    learner.begin(feature_task(10), schedule)
    state = {**learner.state_dict(), "progress": torch.tensor([7, 0, 1])}
    try:
        learner.load_state_dict(state)
    except ValueError:
        learner.discard()
        learner.begin(feature_task(10), schedule)
    while learner.step():
        pass
    learner.finish()
    leader.dismiss(is_told=False, has_failed=False)
    return torch.cat([each.flatten() for each in learner.candidate.parameters()])
