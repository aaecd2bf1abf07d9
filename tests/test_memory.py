"""The rehearsal memory: a fair sample, bounded, the same again from the same tasks."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from teacherd.models.draws import Draws
from teacherd.models.memory import Memory, MemoryConfig

THREE = MemoryConfig(instances_per_class=3)
INSTANCE_BYTES = 4
Instances = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def instances(start: int, num: int, *, num_classes: int = 2) -> Instances:
    """Return so many instances, each with a number of its own, classes in turn."""
    numbers = np.arange(start, start + num)
    return numbers.astype(np.float32)[:, None], numbers % num_classes


def filled(
    config: MemoryConfig = THREE, *, seed: int = 0, num_tasks: int = 3, per_task: int = 20
) -> Memory:
    """Return a memory after some tasks."""
    memory = Memory()
    for task in range(1, num_tasks + 1):
        offered = instances(per_task * (task - 1), per_task)
        memory.offer(config, *offered, num_classes=2, draws=Draws(seed=seed, task=task))
    return memory


def kept(memory: Memory) -> tuple[list[float], list[int]]:
    """Return numbers and labels of what is there."""
    found = memory.instances()
    return ([], []) if found is None else (found[0][:, 0].tolist(), found[1].tolist())


def test_each_class_has_as_many_as_it_may() -> None:
    """However often one comes; their labels are theirs."""
    numbers, labels = kept(filled())

    assert [0, 0, 0, 1, 1, 1] == labels
    assert labels == [int(number) % 2 for number in numbers]
    assert len(set(numbers)) == 6


def test_every_instance_is_as_likely_to_stay() -> None:
    """Algorithm R: of 30 per class 3 stay, wherever in the stream they came."""
    counts = Counter(number for seed in range(400) for number in kept(filled(seed=seed))[0])
    expected = 400 * 3 / 30
    thirds = [sum(counts[number] for number in range(20 * n, 20 * n + 20)) for n in range(3)]

    assert 20 * expected == pytest.approx(thirds[0], rel=0.1)
    assert 20 * expected == pytest.approx(thirds[1], rel=0.1)
    assert 20 * expected == pytest.approx(thirds[2], rel=0.1)


def test_it_follows_from_tasks_and_seed_alone() -> None:
    """Whatever the process has drawn; so a replay fills it again."""
    one = kept(filled())
    torch.manual_seed(7)

    assert one == kept(filled())
    assert one != kept(filled(seed=1))


def test_a_saved_memory_goes_on_as_one_that_was_not() -> None:
    """Through safetensors, counts included."""
    straight, saved = filled(num_tasks=2), filled(num_tasks=2)
    loaded = Memory()
    loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(saved.state_dict())))
    assert kept(straight) == kept(loaded)
    for memory in (straight, loaded):
        memory.offer(THREE, *instances(40, 40), num_classes=2, draws=Draws(seed=0, task=3))

    assert kept(straight) == kept(loaded)


def test_an_empty_memory_is_saved_as_nothing() -> None:
    """And whoever loads nothing is empty."""
    memory = filled()
    memory.load_state_dict(Memory().state_dict())

    assert {} == Memory().state_dict()
    assert memory.instances() is None


def test_a_damaged_state_is_refused() -> None:
    """A part of it is missing, or the parts are of different memories."""
    state = filled().state_dict()
    with pytest.raises(ValueError, match="a part of it is missing"):
        Memory().load_state_dict({"memory.inputs": state["memory.inputs"]})
    with pytest.raises(ValueError, match="do not belong together"):
        Memory().load_state_dict({**state, "memory.labels": state["memory.labels"][:-1]})


def test_more_classes_share_the_same_bytes() -> None:
    """Where the bound in bytes is what counts, each class gives some away, at random."""
    config = MemoryConfig(instances_per_class=100, max_bytes=INSTANCE_BYTES * 12)
    memory = filled(config)
    before = set(kept(memory)[0])
    inputs, labels = instances(60, 30, num_classes=3)
    memory.offer(config, inputs, labels, num_classes=3, draws=Draws(seed=0, task=4))

    assert 12 == len(before)
    assert INSTANCE_BYTES * 12 == memory.num_bytes
    assert {0: 4, 1: 4, 2: 4} == Counter(kept(memory)[1])
    late = filled(config, seed=3)
    late.offer(config, inputs[:0], labels[:0], num_classes=3, draws=Draws(seed=3, task=4))
    assert set(kept(late)[0]) < set(kept(filled(config, seed=3))[0])


def test_a_switched_off_memory_keeps_nothing() -> None:
    """Also what it had, and it is not used."""
    memory = filled()
    off = MemoryConfig()
    assert memory.rehearse(off, num_classes=2) is None
    memory.offer(off, *instances(60, 4), num_classes=2, draws=Draws(seed=0, task=4))

    assert 0 == len(memory)


def test_classes_that_the_teacher_does_not_know_are_refused_or_forgotten() -> None:
    """After a rollback to a version before them."""
    memory = filled()
    with pytest.raises(ValueError, match="has instances of class 1, the teacher knows 1"):
        memory.rehearse(THREE, num_classes=1)
    memory.keep_classes(1)

    assert [0, 0, 0] == kept(memory)[1]
    assert memory.rehearse(THREE, num_classes=1) is not None


def test_what_is_kept_is_a_copy() -> None:
    """A task's buffer may be used again."""
    memory = Memory()
    inputs, labels = instances(0, 4)
    memory.offer(THREE, inputs, labels, num_classes=2, draws=Draws(seed=0, task=1))
    inputs[:] = -1

    assert -1 not in kept(memory)[0]


@pytest.mark.parametrize(("field", "value"), [("instances_per_class", -1), ("max_bytes", 0)])
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: int) -> None:
    """The error names field and value."""
    with pytest.raises(ValueError, match=f"^{field}: {value}"):
        MemoryConfig(**{field: value})
