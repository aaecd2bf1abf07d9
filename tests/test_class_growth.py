"""Tests of learning new classes: what the learner does to student, teacher and old classes."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from growing_learners import accuracy, are_equal, tensors
from tiny_networks import FEATURE_PREPROCESSING, NUM_FEATURES
from torch import nn

from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.head_growth import widened
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.memory import MemoryConfig
from teacherd.models.old_classes import NewClassesConfig
from teacherd.models.task import Schedule, Task

CPU = torch.device("cpu")
MLP = BackboneConfig(name="mlp", input_shape=(NUM_FEATURES,), arguments={"width": 8, "depth": 1})
SIX_EPOCHS = Schedule(seed=3, epochs=6, learning_rate=0.01)
CONFIG = LearnerConfig(
    batch_size=8,
    consolidation=ConsolidationConfig(retain=0.3, freezing_epochs=1, interval_epochs=2),
)
NUM_OLD, NUM_NEW = 3, 2


def build_mlp(num_classes: int = NUM_OLD) -> nn.Module:
    """Return a seeded network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(MLP, num_classes=num_classes)


def build_learner(
    config: LearnerConfig = CONFIG, *, architecture: BackboneConfig | None = MLP
) -> Learner:
    """Return a learner whose network can grow."""
    return Learner(
        config,
        teacher=build_mlp(),
        preprocessing=FEATURE_PREPROCESSING,
        sigma=0.5,
        device=CPU,
        architecture=architecture,
    )


def task_of(
    classes: tuple[int, ...], *, number: int = 1, num_new: int = 0, per_class: int = 8
) -> Task:
    """Return a task of Gaussian clouds, one for each class, classes in turn."""
    rng = np.random.default_rng(number)
    centres = 3 * np.random.default_rng(0).standard_normal((10, NUM_FEATURES))
    labels = np.array(classes * per_class, dtype=np.int64)
    inputs = centres[labels] + rng.standard_normal((len(labels), NUM_FEATURES))
    return Task(
        number=number, inputs=inputs.astype(np.float32), labels=labels, num_new_classes=num_new
    )


MIXED = task_of((0, 3, 1, 4), num_new=NUM_NEW)
"""Known and new classes together."""


def test_student_and_teacher_grow_and_the_old_teacher_stays() -> None:
    """The student at once, the candidate at the first consolidation, the teacher when accepted."""
    learner = build_learner()
    before, teacher = tensors(learner.teacher), learner.teacher
    learner.begin(MIXED, SIX_EPOCHS)
    sizes = [(learner.student.head.out_features, learner.candidate.head.out_features)]
    while learner.step():
        if learner.num_steps_done % 4 == 0:
            sizes.append((learner.student.head.out_features, learner.candidate.head.out_features))

    # Consolidated after epochs 2, 4 and 6 of four steps.
    assert [(5, 3), (5, 3), (5, 5), (5, 5), (5, 5), (5, 5)] == sizes
    assert are_equal(before, tensors(teacher))
    learner.accept()
    assert (NUM_OLD, NUM_NEW) == learner.increments
    assert not learner.teacher.training
    assert not any(parameter.requires_grad for parameter in learner.teacher.parameters())


def test_the_teachers_new_rows_are_the_students_at_the_first_consolidation() -> None:
    """An average with random rows would be noise; the old rows are averaged as ever."""
    learner = build_learner()
    learner.begin(MIXED, SIX_EPOCHS)
    while learner.candidate.head.out_features == NUM_OLD:
        learner.step()
    old, student, candidate = (
        each.head.weight.detach() for each in (learner.teacher, learner.student, learner.candidate)
    )
    alpha = 0.3 ** (1 / 3)

    assert torch.equal(student[NUM_OLD:], candidate[NUM_OLD:])
    torch.testing.assert_close(
        alpha * old + (1 - alpha) * student[:NUM_OLD], candidate[:NUM_OLD], atol=1e-6, rtol=1e-5
    )


def test_before_the_first_step_the_student_answers_about_old_classes_as_the_teacher() -> None:
    """Everything but the new rows is taken over, and these follow from the seed alone."""
    students = []
    for seed in (3, 3, 4):
        learner = build_learner()
        learner.begin(MIXED, replace(SIX_EPOCHS, seed=seed))
        students.append(learner.student)
    inputs = torch.from_numpy(MIXED.inputs)

    torch.testing.assert_close(learner.teacher(inputs), students[0](inputs)[:, :NUM_OLD])
    assert are_equal(tensors(students[0]), tensors(students[1]))
    assert not are_equal(tensors(students[0]), tensors(students[2]))


@pytest.mark.parametrize("num_steps", [0, 7, 8, 9, 23, 24])
@pytest.mark.parametrize("groups", ["full", "random"])
def test_a_resumed_task_ends_as_one_that_was_never_interrupted(num_steps: int, groups: str) -> None:
    """Before and after the candidate has grown, in the second increment, with a memory, as bits."""
    config = replace(
        CONFIG,
        new_classes=NewClassesConfig(groups=groups),  # type: ignore[arg-type] # parametrised
        memory=MemoryConfig(instances_per_class=2),
    )
    second = task_of((0, 5, 1, 3), number=2, num_new=1)
    learners = [build_learner(config) for _ in range(3)]
    for learner in learners:
        learner.learn(MIXED, SIX_EPOCHS)
        learner.accept()
    straight, broken, resumed = learners
    expected = straight.learn(second, SIX_EPOCHS)
    broken.begin(second, SIX_EPOCHS)
    for _ in range(num_steps):
        broken.step()
    saved = safetensors.torch.save(broken.state_dict())
    resumed.begin(second, SIX_EPOCHS)
    resumed.load_state_dict(safetensors.torch.load(saved))
    while resumed.step():
        pass

    assert expected == resumed.finish()
    assert are_equal(tensors(straight.candidate), tensors(resumed.candidate))
    assert are_equal(tensors(straight.student), tensors(resumed.student))
    resumed.accept()
    assert (NUM_OLD, NUM_NEW, 1) == resumed.increments


def test_a_discarded_task_leaves_no_trace() -> None:
    """Classes, increments, memory and teacher are what they were; the next task may grow anew."""
    learner = build_learner(replace(CONFIG, memory=MemoryConfig(instances_per_class=2)))
    before = tensors(learner.teacher)
    learner.learn(MIXED, SIX_EPOCHS)
    learner.discard()

    assert are_equal(before, tensors(learner.teacher))
    assert () == learner.increments
    assert 0 == len(learner.memory)
    learner.learn(task_of((3, 0), num_new=1), SIX_EPOCHS)
    assert (NUM_OLD, 1) == learner.increments


def test_a_point_on_the_way_has_the_new_rows_of_the_candidate() -> None:
    """Guarded consolidation works along the old rows; the old teacher itself is not changed."""
    learner = build_learner()
    learner.learn(MIXED, SIX_EPOCHS)
    teacher, candidate = learner.teacher, learner.candidate
    half = learner.candidate_at(0.5)

    assert learner.candidate_at(1) is candidate
    assert torch.equal(candidate.head.weight[NUM_OLD:], half.head.weight[NUM_OLD:])
    torch.testing.assert_close(
        (teacher.head.weight + candidate.head.weight[:NUM_OLD]) / 2, half.head.weight[:NUM_OLD]
    )
    assert NUM_OLD == teacher.head.out_features
    learner.move_candidate(0.5)
    assert are_equal(tensors(half), tensors(learner.candidate))


def test_a_wider_teacher_answers_about_old_classes_as_before() -> None:
    """Only rows behind its own are another network's."""
    teacher, student = build_mlp(), build_mlp(5)
    wide = widened(teacher, like=student)
    inputs = torch.randn(6, NUM_FEATURES)

    torch.testing.assert_close(teacher(inputs), wide(inputs)[:, :NUM_OLD])
    assert torch.equal(student.head.weight[NUM_OLD:], wide.head.weight[NUM_OLD:])


@torch.no_grad()
def told_apart(learner: Learner, task: Task) -> float:
    """Return the share of instances of base classes that are right among those."""
    logits = learner.teacher(torch.from_numpy(task.inputs))[:, :NUM_OLD]
    return float((logits.argmax(1) == torch.from_numpy(task.labels)).double().mean())


def test_old_classes_are_still_told_apart_while_new_ones_are_learned() -> None:
    """Without a single old instance in two increments; without the weight both are told worse."""
    base = task_of((0, 1, 2), per_class=30)
    old, new = (task_of(classes, number=99, per_class=50) for classes in ((0, 1, 2), (3, 4, 5)))
    results = {}
    for weight in (4.0, 0.0):
        config = LearnerConfig(
            batch_size=16,
            new_classes=NewClassesConfig(weight=weight),
            distillation=DistillationConfig(dust="noise"),
            consolidation=ConsolidationConfig(retain=0.2),  # of the first task, too
        )
        learner = build_learner(config)
        schedule = Schedule(seed=0, epochs=20, learning_rate=0.01)
        for task in (
            base,
            task_of((3, 4), number=2, num_new=2, per_class=30),
            task_of((5,), number=3, num_new=1, per_class=30),
        ):
            learner.learn(task, schedule)
            learner.accept()
        results[weight] = (told_apart(learner, old), accuracy(learner, new))

    assert results[4.0][0] > results[0.0][0] + 0.1
    assert results[4.0][1] > results[0.0][1] + 0.1


def test_a_memory_keeps_old_classes_known_among_new_ones() -> None:
    """Five instances of each are enough on clouds; without them they are taken for new ones."""
    old, new = (task_of(classes, number=99, per_class=50) for classes in ((0, 1, 2), (3, 4)))
    results = {}
    for num in (5, 0):
        config = LearnerConfig(
            batch_size=16,
            memory=MemoryConfig(instances_per_class=num),
            consolidation=ConsolidationConfig(retain=0.2),  # of the first task, too
        )
        learner = build_learner(config)
        schedule = Schedule(seed=0, epochs=30, learning_rate=0.01)
        learner.learn(task_of((0, 1, 2), per_class=30), schedule)
        learner.accept()
        learner.learn(task_of((3, 4), number=2, num_new=2, per_class=30), schedule)
        learner.accept()
        results[num] = (accuracy(learner, old), accuracy(learner, new))

    assert min(results[5]) > 0.8
    assert results[5][0] > results[0][0] + 0.3


def test_the_old_teacher_gets_new_classes_wrong() -> None:
    """So they count as outer, and its loss is that of the classes it knows."""
    learner = build_learner()
    learner.begin(MIXED, SIX_EPOCHS)
    is_new = MIXED.labels >= NUM_OLD
    known = Task(number=1, inputs=MIXED.inputs[~is_new], labels=MIXED.labels[~is_new])
    alone = build_learner()
    alone.begin(known, SIX_EPOCHS)

    assert not learner.before.correct[is_new].any()
    assert learner.before.correct[~is_new].tolist() == alone.before.correct.tolist()
    assert learner.before.loss == pytest.approx(alone.before.loss)
    assert (0.0, 0.0) == learner.before.per_class_accuracy[NUM_OLD:]


def test_without_new_classes_and_in_one_increment_nothing_is_different() -> None:
    """IIL is the case of no new class: bit for bit, whatever the settings of new classes are."""
    results = []
    for architecture, settings in (
        (None, NewClassesConfig()),
        (MLP, NewClassesConfig(pool="increments", groups="random", weight=7)),
    ):
        learner = build_learner(replace(CONFIG, new_classes=settings), architecture=architecture)
        report = learner.learn(task_of((0, 1, 2)), SIX_EPOCHS)
        results.append((report, tensors(learner.candidate)))

    assert results[0][0] == results[1][0]
    assert {"total", "fused", "dust"} == set(results[0][0].losses)
    assert are_equal(results[0][1], results[1][1])


def test_a_network_that_cannot_be_built_anew_cannot_grow() -> None:
    """And a new class without instances has no rows worth having."""
    with pytest.raises(ValueError, match="architecture: None"):
        build_learner(architecture=None).begin(MIXED, SIX_EPOCHS)
    with pytest.raises(ValueError, match="class 4 is new and has no instance"):
        build_learner().begin(task_of((0, 3), num_new=2), SIX_EPOCHS)
    with pytest.raises(ValueError, match="labels: 3: the network knows classes 0 to 2"):
        build_learner().begin(task_of((0, 3)), SIX_EPOCHS)


def test_increments_of_another_teacher_are_refused() -> None:
    """The groups would be of other classes."""
    learner = build_learner()
    learner.increments = (2, 2)

    with pytest.raises(ValueError, match=r"increments: \[2, 2\]: are 4 classes, the teacher has 3"):
        learner.begin(MIXED, SIX_EPOCHS)
