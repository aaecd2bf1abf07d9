"""Tests of what rank 0 sends to the others before a task."""

import numpy as np
from tiny_networks import image_task

from teacherd.daemon.leading_learner import pack_beginning, unpack_beginning
from teacherd.daemon.rank_message import RankMessage
from teacherd.models.draws import Draws
from teacherd.models.memory import Memory, MemoryConfig
from teacherd.models.task import Schedule

SCHEDULE = Schedule(seed=3, epochs=2, learning_rate=0.01)


def filled_memory() -> Memory:
    """Return a memory that has been offered a task."""
    memory, task = Memory(), image_task(20)
    config = MemoryConfig(instances_per_class=2)
    draws = Draws(seed=0, task=1)
    memory.offer(config, task.inputs, task.labels, num_classes=3, draws=draws)
    return memory


def test_a_task_and_what_is_rehearsed_with_it_arrive_as_they_are() -> None:
    """Instances, number, schedule, and the memory that every rank must learn the same of."""
    task, sent = image_task(7, number=5), filled_memory()
    message = RankMessage.from_bytes(pack_beginning(task, SCHEDULE, sent).to_bytes())
    found, schedule = unpack_beginning(message)
    memory = Memory()
    memory.load_state_dict(message.tensors)

    assert (5, SCHEDULE) == (found.number, schedule)
    assert np.array_equal(task.inputs, found.inputs)
    assert np.array_equal(task.labels, found.labels)
    assert len(sent) == len(memory) > 0
    for mine, theirs in zip(sent.instances() or (), memory.instances() or (), strict=True):
        assert np.array_equal(mine, theirs)


def test_without_a_memory_none_arrives() -> None:
    """What a follower had of one before is then gone, as it is with rank 0."""
    message = RankMessage.from_bytes(pack_beginning(image_task(3), SCHEDULE, Memory()).to_bytes())
    memory = filled_memory()
    memory.load_state_dict(message.tensors)

    assert 0 == len(memory)
