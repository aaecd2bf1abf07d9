"""The learner of rank 0: whatever it is told to do, all other ranks do with it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from teacherd.daemon.config import to_plain
from teacherd.daemon.leader import Leader
from teacherd.daemon.rank_message import RankMessage
from teacherd.models.artifact import Manifest
from teacherd.models.evaluation import as_tensor
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.memory import Memory
from teacherd.models.module_tensors import module_tensors, snapshot
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Schedule, Task
from teacherd.models.task_report import TaskReport


class LeadingLearner(Learner):
    """Makes each call that changes something on all ranks, in the same order.

    Args:
        leader: Tells the others.
        manifest: Of a version with this architecture, from which they build the network.
        increments: As for Learner, all classes counted.
    """

    def __init__(
        self,
        config: LearnerConfig,
        *,
        teacher: nn.Module,
        preprocessing: Preprocessing,
        sigma: float | None,
        device: torch.device,
        leader: Leader,
        manifest: Manifest,
        increments: Sequence[int],
        memory: Memory | None = None,
        **options: Any,  # noqa: ANN401 (the others of Learner)
    ) -> None:
        facts = {
            "config": to_plain(asdict(config)),
            "manifest": manifest.to_json(),
            "increments": list(increments),
            "sigma": sigma,
        }
        leader.tell(RankMessage("head", facts, snapshot(module_tensors(teacher), prefix="head")))
        self._leader = leader
        super().__init__(
            config,
            teacher=teacher,
            preprocessing=preprocessing,
            sigma=sigma,
            device=device,
            ranks=leader.ranks,
            increments=increments,
            memory=memory,
            **options,
        )

    def begin(self, task: Task, schedule: Schedule) -> None:
        """See Learner; the others get the instances, and those that are learned again."""
        with self._leader.together(pack_beginning(task, schedule, self.memory)):
            super().begin(task, schedule)

    def step(self) -> bool:
        """See Learner."""
        with self._leader.together(RankMessage("step")):
            return super().step()

    def finish(self) -> TaskReport:
        """See Learner."""
        with self._leader.together(RankMessage("finish")):
            return super().finish()

    def move_candidate(self, point: float) -> None:
        """See Learner."""
        self._leader.tell(RankMessage("move", {"point": point}))
        super().move_candidate(point)

    def accept(self) -> None:
        """See Learner."""
        self._leader.tell(RankMessage("accept"))
        super().accept()

    def discard(self) -> None:
        """See Learner."""
        self._leader.tell(RankMessage("discard"))
        super().discard()

    def state_dict(self) -> dict[str, Tensor]:
        """See Learner; what another rank has otherwise is not worth keeping.

        Raises:
            DivergedError: The student is not the same on all ranks.
        """
        with self._leader.together(RankMessage("compare")):
            self.require_same_student()
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See Learner; the others get the state, once it has proved fit: they refuse nothing."""
        super().load_state_dict(state)
        self._leader.tell(RankMessage("restore", {}, state))


def pack_beginning(task: Task, schedule: Schedule, memory: Memory) -> RankMessage:
    """Return a task, its schedule and what is rehearsed with it as a message."""
    values = {each.name: getattr(task, each.name) for each in fields(task)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in values.items() if name not in arrays}
    return RankMessage(
        "begin",
        {"task": plain, "schedule": asdict(schedule)},
        {**{name: as_tensor(array) for name, array in arrays.items()}, **memory.state_dict()},
    )


def unpack_beginning(message: RankMessage) -> tuple[Task, Schedule]:
    """Return what `pack_beginning` was given; the memory is for `Memory.load_state_dict`."""
    names = {each.name for each in fields(Task)}
    arrays: dict[str, Any] = {
        name: each.numpy() for name, each in message.tensors.items() if name in names
    }
    return Task(**message.facts["task"], **arrays), Schedule(**message.facts["schedule"])
