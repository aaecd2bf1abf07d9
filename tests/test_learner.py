"""Tests of the learner: a task as the method is written, the networks it touches, its settings."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from learning_task import (
    CPU,
    FINE_TUNING,
    FIVE_EPOCHS,
    METHOD,
    NOISE,
    SGD,
    CountingLinear,
    are_equal,
    build_learner,
    result_of,
    tensors,
)
from tiny_networks import (
    FEATURE_PREPROCESSING,
    build_tiny_cnn,
    build_tiny_linear,
    feature_task,
    image_task,
)
from torch import nn

from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.draws import Draws
from teacherd.models.evaluation import evaluate
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.optimizer import OptimizerConfig
from teacherd.models.task import Schedule, Task


def naive_method(network: nn.Module, task: Task, seed: int) -> tuple[nn.Module, nn.Module]:
    """Learn two epochs of METHOD's losses as method.md writes them; return teacher and student."""
    teacher, student = network.eval(), copy.deepcopy(network).eval()
    draws, inputs = Draws(seed=seed, task=task.number), torch.from_numpy(task.inputs)
    velocity = [torch.zeros_like(parameter) for parameter in student.parameters()]
    for step in range(4):
        chosen = draws.permutation(step // 2, 8)[4 * (step % 2) : 4 * (step % 2) + 4]
        x, y = (inputs[chosen].float() / 255 - 0.5) / 0.3, torch.from_numpy(task.labels)[chosen]
        dusted = x + torch.empty_like(x).normal_(0, 0.5, generator=draws.generator("dust", step))
        with torch.no_grad():
            fused = 0.5 * F.one_hot(y, 3) + 0.5 * teacher(x).softmax(1)
            boundary = teacher(dusted).softmax(1)
        answers = student(torch.cat([x, dusted])).log_softmax(1)
        loss = -(fused * answers[:4]).sum(1).mean()
        loss = loss + (boundary * (boundary.log() - answers[4:])).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(student.parameters()))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        with torch.no_grad():
            for v, p, g in zip(velocity, student.parameters(), gradients, strict=True):
                v.mul_(0.9).add_(g * min(1.0, 1 / float(norm)) + 5e-4 * p)
                p.sub_(0.05 * v)
    with torch.no_grad():
        for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
            mine.mul_(0.5).add_(0.5 * theirs)
    return teacher, student


def test_a_task_is_learned_as_the_method_is_written() -> None:
    """Losses, dust, clipping, momentum and one consolidation equal a naive version of them."""
    halfway = ConsolidationConfig(retain=0.5)
    config = LearnerConfig(batch_size=4, optimizer=SGD, distillation=NOISE, consolidation=halfway)
    learner = build_learner(config)
    task = image_task(8)
    learner.learn(task, Schedule(seed=3, epochs=2, learning_rate=0.05))

    teacher, student = naive_method(build_tiny_cnn(), task, seed=3)
    for expected, found in ((teacher, learner.candidate), (student, learner.student)):
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(tensor, found.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_an_exact_trajectory() -> None:
    """The losses of a seeded task, to three digits: a change of numbers is seen, and meant."""
    report = build_learner().learn(image_task(10), FIVE_EPOCHS)

    assert report is not None
    expected = {"total": 0.970778, "fused": 0.966305, "dust": 0.004473}
    assert expected == pytest.approx(report.losses, rel=1e-3)
    assert 0.4 == pytest.approx(report.outer_share)


def test_global_randomness_changes_nothing() -> None:
    """Neither seeds nor draws elsewhere move a result, dropout included, nor does it move them."""
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what is tested
        learner = build_learner(teacher=build_tiny_cnn(dropout=0.5))
        before = torch.get_rng_state()
        results.append(result_of(learner, image_task(10)))
        assert torch.equal(before, torch.get_rng_state())

    assert are_equal(*results)


@pytest.mark.parametrize("field", ["seed", "task"])
def test_seed_and_task_number_decide_the_draws(field: str) -> None:
    """Another lineage or another task draws other batches and dust."""
    one = result_of(build_learner(), image_task(10))
    schedule = Schedule(seed=4 if field == "seed" else 3, epochs=5, learning_rate=0.05)
    other = result_of(build_learner(), image_task(10, number=2 if field == "task" else 1), schedule)

    assert not are_equal(one, other)


def test_mixed_dust_has_no_strength_to_calibrate() -> None:
    """Nothing is calibrated, kept or reported, and the term is there."""
    config = replace(METHOD, distillation=DistillationConfig(dust="mixed"))
    learner = build_learner(config, sigma=None)
    report = learner.learn(image_task(10), FIVE_EPOCHS)

    assert {"total", "fused", "dust"} == set(report.losses)
    assert report.sigma is None
    assert "sigma" not in learner.state_dict()


def test_a_decaying_learning_rate_is_that_of_the_step() -> None:
    """Along half a cosine, from the schedule's rate at the first step towards 0 after the last."""
    optimizer = OptimizerConfig(kind="sgd", warmup_share=0, momentum=0, weight_decay=0)
    learner = build_learner(replace(FINE_TUNING, optimizer=optimizer))
    learner.begin(image_task(10), FIVE_EPOCHS)
    rates = []
    while learner.step():
        rates.append(learner._current.student._optimizer.param_groups[0]["lr"])

    expected = [0.05 * (1 + math.cos(math.pi * step / 15)) / 2 for step in range(14)]
    assert expected == pytest.approx(rates)


def test_the_teacher_is_untouched_until_the_candidate_is_accepted() -> None:
    """While a task runs, after it, and when it is discarded: the same object with the same bits."""
    learner = build_learner()
    teacher, before = learner.teacher, tensors(learner.teacher)
    learner.learn(image_task(10), FIVE_EPOCHS)

    assert not are_equal(before, tensors(learner.candidate))
    learner.discard()
    assert learner.teacher is teacher
    assert are_equal(before, tensors(teacher))
    assert 0 == learner.num_steps


def test_an_accepted_candidate_is_what_the_next_task_starts_from() -> None:
    """Student and candidate of the next task are copies of it, in eval mode and frozen."""
    learner = build_learner()
    learner.learn(image_task(10), FIVE_EPOCHS)
    candidate = learner.candidate
    learner.accept()
    assert learner.teacher is candidate
    learner.begin(image_task(10, number=2), FIVE_EPOCHS)

    assert not learner.teacher.training
    assert not any(parameter.requires_grad for parameter in learner.teacher.parameters())
    assert are_equal(tensors(candidate), tensors(learner.student))
    assert are_equal(tensors(candidate), tensors(learner.candidate))


def test_the_callers_network_stays_as_it_is() -> None:
    """The learner keeps a copy: mode, gradients and weights of the original do not change."""
    network = build_tiny_cnn().train()
    before = tensors(network)
    learner = build_learner(teacher=network)
    learner.learn(image_task(10), FIVE_EPOCHS)
    learner.accept()

    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert are_equal(before, tensors(network))


def test_the_candidate_answers_as_the_old_teacher_until_the_freezing_period_ends() -> None:
    """Only then does it move: after epochs 3 and 5 of this schedule."""
    learner = build_learner()
    before = tensors(learner.teacher)
    learner.begin(image_task(8), FIVE_EPOCHS)
    has_moved = []
    for _ in range(5):
        learner.step()
        learner.step()
        has_moved.append(not are_equal(before, tensors(learner.candidate)))
        before = tensors(learner.candidate)

    assert [False, False, True, False, True] == has_moved


def test_frozen_batch_norm_keeps_the_teachers_statistics() -> None:
    """By default only scale and shift of a BatchNorm are trained."""
    learner = build_learner()
    learner.learn(image_task(10), FIVE_EPOCHS)
    teacher, student = tensors(learner.teacher), tensors(learner.student)

    assert torch.equal(teacher["norm.running_mean"], student["norm.running_mean"])
    assert torch.equal(teacher["norm.running_var"], student["norm.running_var"])
    assert not torch.equal(teacher["norm.weight"], student["norm.weight"])


def test_trained_batch_norm_follows_the_task_into_the_candidate() -> None:
    """In train mode the statistics move in the student, and are averaged into the candidate."""
    once = ConsolidationConfig(retain=0.5)
    learner = build_learner(replace(METHOD, batch_norm="train", consolidation=once))
    learner.learn(image_task(10), FIVE_EPOCHS)
    mean = [
        tensors(network)["norm.running_mean"]
        for network in (learner.teacher, learner.student, learner.candidate)
    ]

    assert not torch.equal(mean[0], mean[1])
    torch.testing.assert_close((mean[0] + mean[1]) / 2, mean[2])


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("config", [METHOD, FINE_TUNING])
@pytest.mark.parametrize("num_instances", [1, 3, 5])
def test_a_task_of_any_size_is_learned(
    batch_norm: str, config: LearnerConfig, num_instances: int
) -> None:
    """One instance, fewer than a batch, one more than a batch; BatchNorm trained on one too."""
    config = LearnerConfig(
        batch_size=4,
        batch_norm=batch_norm,  # type: ignore[arg-type] # parametrised
        optimizer=SGD,
        distillation=config.distillation,
        consolidation=config.consolidation,
    )
    flat = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    learner = build_learner(config, teacher=flat, preprocessing=FEATURE_PREPROCESSING)
    report = learner.learn(feature_task(num_instances), FIVE_EPOCHS)

    assert report is not None
    assert num_instances == report.num_instances
    assert 5 * (2 if num_instances == 5 else 1) == report.num_steps
    assert all(torch.isfinite(tensor).all() for tensor in tensors(learner.candidate).values())


def test_fine_tuning_asks_the_teacher_nothing_and_serves_the_student() -> None:
    """Plain training by configuration: a forward and backward pass, cross-entropy, no averaging."""
    network = CountingLinear()
    learner = build_learner(FINE_TUNING, teacher=network, preprocessing=FEATURE_PREPROCESSING)
    task = feature_task(8)
    report = learner.learn(task, FIVE_EPOCHS)
    candidate, student = learner.candidate, learner.student
    assert isinstance(candidate, CountingLinear)
    assert isinstance(student, CountingLinear)

    assert report is not None
    # Without gradient there was only the outer share, before the copies were made.
    assert {True: 5 * 8, False: 8} == student.num_asked
    assert {True: 0, False: 8} == candidate.num_asked
    assert are_equal(tensors(student), tensors(candidate))
    assert {"total", "fused"} == set(report.losses)
    assert report.sigma == 0.5


def test_the_method_asks_the_teacher_about_each_instance_only_when_it_changed() -> None:
    """Dusted inputs at every step, clean ones once between two consolidations: 7 units, not 8."""
    learner = build_learner(METHOD, teacher=CountingLinear(), preprocessing=FEATURE_PREPROCESSING)
    learner.learn(feature_task(8), FIVE_EPOCHS)
    candidate, student = learner.candidate, learner.student
    assert isinstance(candidate, CountingLinear)
    assert isinstance(student, CountingLinear)

    # The outer share, 5 epochs of dust, and the clean inputs at the start and after epoch 3.
    assert {True: 0, False: 8 + 5 * 8 + 2 * 8} == candidate.num_asked
    assert {True: 5 * 16, False: 8} == student.num_asked


def test_learning_lowers_the_loss_and_raises_the_accuracy() -> None:
    """On separable features the teacher gets better, task by task, and outer instances fewer."""
    config = LearnerConfig(
        batch_size=32,
        optimizer=SGD,
        distillation=NOISE,
        consolidation=ConsolidationConfig(retain=0.3),
    )
    learner = build_learner(
        config, teacher=build_tiny_linear(), preprocessing=FEATURE_PREPROCESSING, sigma=None
    )
    test = feature_task(500, seed=99)
    outer_shares, accuracies = [], []
    for number in (1, 2, 3):
        task = feature_task(200, number=number, seed=number)
        report = learner.learn(task, Schedule(seed=0, epochs=20, learning_rate=0.1))
        assert report is not None
        learner.accept()
        outer_shares.append(report.outer_share)
        accuracies.append(
            evaluate(
                learner.teacher,
                test.inputs,
                test.labels,
                preprocessing=FEATURE_PREPROCESSING,
                device=CPU,
            ).accuracy
        )

    assert outer_shares == sorted(outer_shares, reverse=True)
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] > 0.7


def test_the_dust_is_calibrated_once_and_forgotten_with_a_discarded_task() -> None:
    """A calibrated strength lasts for later tasks, but a discarded task leaves no trace of it."""
    learner = build_learner(sigma=None)
    learner.learn(image_task(40), FIVE_EPOCHS)
    calibrated = learner.sigma
    learner.discard()
    forgotten = learner.sigma
    learner.learn(image_task(40), FIVE_EPOCHS)
    again = learner.sigma
    learner.accept()
    learner.begin(image_task(40, number=2, seed=5), FIVE_EPOCHS)

    assert calibrated is not None
    assert forgotten is None
    assert calibrated == again == learner.sigma


def test_a_configured_strength_of_the_dust_wins() -> None:
    """Then nothing is calibrated, and what the manifest held is not used."""
    config = LearnerConfig(distillation=DistillationConfig(sigma=0.125))

    assert 0.125 == build_learner(config, sigma=0.5).sigma


def test_progress_is_counted_and_a_finished_task_makes_no_more_steps() -> None:
    """`step` says whether there is more; asked again it changes nothing."""
    learner = build_learner()
    assert (0, 0) == (learner.num_steps_done, learner.num_steps)
    learner.begin(image_task(8), FIVE_EPOCHS)
    assert (0, 10) == (learner.num_steps_done, learner.num_steps)
    goes_on = [learner.step() for _ in range(10)]
    done = tensors(learner.student)

    assert [True] * 9 + [False] == goes_on
    assert not learner.step()
    assert are_equal(done, tensors(learner.student))
    assert 10 == learner.num_steps_done


def test_bfloat16_learns_about_the_same() -> None:
    """Lower precision of the passes moves weights little; the weights stay float32."""
    exact = result_of(build_learner(), image_task(10))
    config = replace(METHOD, precision="bfloat16")
    rounded = result_of(build_learner(config), image_task(10))

    assert not are_equal(exact, rounded)
    for name, tensor in exact.items():
        torch.testing.assert_close(tensor, rounded[name], atol=0.05, rtol=0.05)
