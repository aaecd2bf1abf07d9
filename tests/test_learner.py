"""Tests of the learner: what a task does to student and teacher, and that nothing else does."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from tiny_networks import (
    FEATURE_PREPROCESSING,
    IMAGE_PREPROCESSING,
    build_tiny_cnn,
    build_tiny_linear,
    feature_task,
    image_task,
)
from torch import Tensor, nn

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.draws import Draws
from teacherd.models.evaluation import evaluate
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.non_finite import NonFiniteError
from teacherd.models.optimizer import OptimizerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Schedule, Task

CPU = torch.device("cpu")
FIVE_EPOCHS = Schedule(seed=3, epochs=5, learning_rate=0.05)
SGD = OptimizerConfig(kind="sgd", decay="none")
NOISE = DistillationConfig(form="fused", temperature=1, dust="noise")
METHOD = LearnerConfig(
    batch_size=4,
    optimizer=SGD,
    distillation=NOISE,
    consolidation=ConsolidationConfig(retain=0.5, freezing_epochs=1, interval_epochs=2),
)
FINE_TUNING = LearnerConfig(
    batch_size=4,
    optimizer=SGD,
    distillation=DistillationConfig(label_share=1, dust_weight=0),
    consolidation=ConsolidationConfig(kind="none"),
)


class CountingLinear(nn.Linear):
    """Counts the instances that it is asked about, with gradient and without."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.num_asked = {True: 0, False: 0}

    def forward(self, inputs: Tensor) -> Tensor:
        """Count and answer."""
        self.num_asked[torch.is_grad_enabled()] += len(inputs)
        return super().forward(inputs)


def build_learner(
    config: LearnerConfig = METHOD,
    *,
    teacher: nn.Module | None = None,
    preprocessing: Preprocessing = IMAGE_PREPROCESSING,
    sigma: float | None = 0.5,
) -> Learner:
    """Return a learner of the tiny network, on the CPU."""
    return Learner(
        config,
        teacher=build_tiny_cnn() if teacher is None else teacher,
        preprocessing=preprocessing,
        sigma=sigma,
        device=CPU,
    )


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that a network holds."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Say whether two states are the same, bit for bit."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def result_of(learner: Learner, task: Task, schedule: Schedule = FIVE_EPOCHS) -> dict[str, Tensor]:
    """Learn a task and return the candidate."""
    learner.learn(task, schedule)
    return tensors(learner.candidate)


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


@pytest.mark.parametrize("num_steps", [0, 1, 6, 7, 14, 15])
@pytest.mark.parametrize(("kind", "dust"), [("sgd", "noise"), ("adamw", "mixed")])
def test_a_resumed_task_ends_as_one_that_was_never_interrupted(
    num_steps: int, kind: str, dust: str
) -> None:
    """At any step, through safetensors, bit for bit: weights, losses and the rest of the report."""
    config = LearnerConfig(
        batch_size=4,
        batch_norm="train",
        optimizer=OptimizerConfig(kind=kind),  # type: ignore[arg-type] # parametrised
        distillation=DistillationConfig(dust=dust),  # type: ignore[arg-type] # the same
        consolidation=ConsolidationConfig(
            kind="spatial_temporal", freezing_epochs=1, interval_epochs=1
        ),
    )
    task = image_task(10)
    straight = build_learner(config, sigma=None)
    expected = straight.learn(task, FIVE_EPOCHS)
    broken = build_learner(config, sigma=None)
    broken.begin(task, FIVE_EPOCHS)
    for _ in range(num_steps):
        broken.step()
    saved = safetensors.torch.save(broken.state_dict())

    resumed = build_learner(config, sigma=None)
    resumed.begin(task, FIVE_EPOCHS)
    resumed.load_state_dict(safetensors.torch.load(saved))
    while resumed.step():
        pass

    assert expected == resumed.finish()
    assert are_equal(tensors(straight.candidate), tensors(resumed.candidate))
    assert are_equal(tensors(straight.student), tensors(resumed.student))


def test_a_task_without_dust_resumes_without_a_strength_of_it() -> None:
    """Nothing was calibrated, so the state holds nothing of the kind, and none appears."""
    learner = build_learner(FINE_TUNING, sigma=None)
    learner.begin(image_task(10), FIVE_EPOCHS)
    learner.step()
    state = learner.state_dict()
    learner.load_state_dict(state)

    assert "sigma" not in state
    assert learner.sigma is None


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


def test_a_state_is_a_copy() -> None:
    """What was saved does not move with the training that goes on."""
    learner = build_learner()
    learner.begin(image_task(10), FIVE_EPOCHS)
    learner.step()
    state = learner.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    learner.step()

    assert are_equal(before, state)


def test_a_state_of_another_task_or_network_is_refused() -> None:
    """Going on with foreign weights would learn nonsense in silence."""
    learner = build_learner()
    learner.begin(image_task(10), FIVE_EPOCHS)
    state = learner.state_dict()
    learner.discard()
    learner.begin(image_task(10, number=2), FIVE_EPOCHS)
    with pytest.raises(ValueError, match="the state is of task 1"):
        learner.load_state_dict(state)
    linear = build_learner(
        teacher=build_tiny_linear(), preprocessing=FEATURE_PREPROCESSING, sigma=0.5
    )
    linear.begin(feature_task(10), FIVE_EPOCHS)
    with pytest.raises(ValueError, match="another network"):
        linear.load_state_dict(state)


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


def test_learning_with_augmentation_ends_elsewhere_and_resumes_too() -> None:
    """Images are changed by keyed draws, so an interruption changes nothing here either."""
    config = LearnerConfig(
        batch_size=4,
        optimizer=SGD,
        augmentation=AugmentationConfig(crop_padding=1, horizontal_flip=True),
        consolidation=METHOD.consolidation,
    )
    task = image_task(10)
    expected = result_of(build_learner(config), task)
    broken, resumed = build_learner(config), build_learner(config)
    broken.begin(task, FIVE_EPOCHS)
    for _ in range(10):
        broken.step()
    resumed.begin(task, FIVE_EPOCHS)
    resumed.load_state_dict(broken.state_dict())
    while resumed.step():
        pass

    assert are_equal(expected, tensors(resumed.candidate))
    assert not are_equal(expected, result_of(build_learner(), task))


def test_learning_lowers_the_loss_and_raises_the_accuracy() -> None:
    """On separable features the teacher gets better, task by task, and outer instances fewer."""
    config = LearnerConfig(batch_size=32, optimizer=SGD, distillation=NOISE)
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


def poisoned_task() -> Task:
    """Return a task of which one instance overflows, in the second batch of the first epoch."""
    task = feature_task(8)
    task.inputs[0] = np.float32(3e38)
    return task


@pytest.mark.parametrize(
    ("batch_norm", "distillation", "term"),
    [
        ("frozen", DistillationConfig(), "fused"),
        ("frozen", DistillationConfig(label_share=1, dust_weight=0), "fused"),
        ("train", DistillationConfig(), "fused"),
        ("train", DistillationConfig(label_share=1, dust_weight=0), "statistics"),
    ],
)
def test_a_loss_that_is_not_finite_stops_before_the_step(
    batch_norm: str, distillation: DistillationConfig, term: str
) -> None:
    """The error names task, step and term; student, candidate and progress are as before."""
    config = LearnerConfig(
        batch_size=4,
        batch_norm=batch_norm,  # type: ignore[arg-type] # parametrised
        optimizer=SGD,
        distillation=distillation,
    )
    linear = nn.Linear(4, 3)
    nn.init.constant_(linear.weight, 2.0)
    network = nn.Sequential(nn.BatchNorm1d(4), linear)
    learner = build_learner(config, teacher=network, preprocessing=FEATURE_PREPROCESSING)
    learner.begin(poisoned_task(), FIVE_EPOCHS)
    learner.step()
    before = learner.state_dict()
    with pytest.raises(NonFiniteError) as caught:
        learner.step()

    assert term == caught.value.term
    assert f"task 1, step 1: {term} is" in str(caught.value)
    assert 1 == learner.num_steps_done
    assert are_equal(before, learner.state_dict())


def test_a_gradient_that_is_not_finite_stops_before_the_step_too() -> None:
    """A finite loss can have an infinite slope; it is named the gradient's."""

    class SquareRoot(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return (super().forward(inputs) * 0).sqrt()

    learner = build_learner(
        FINE_TUNING, teacher=SquareRoot(4, 3), preprocessing=FEATURE_PREPROCESSING
    )
    learner.begin(feature_task(8), FIVE_EPOCHS)
    before = tensors(learner.student)
    with pytest.raises(NonFiniteError, match="task 1, step 0: gradient is nan"):
        learner.step()

    assert are_equal(before, tensors(learner.student))


def test_an_unknown_label_is_refused_before_anything_begins() -> None:
    """A label beyond the teacher's classes is an error by name, not a crash on the device."""
    task = Task(number=1, inputs=image_task(3).inputs, labels=np.array([0, 3, 1], dtype=np.int64))
    learner = build_learner()
    with pytest.raises(ValueError, match="labels: 3: the network knows classes 0 to 2"):
        learner.begin(task, FIVE_EPOCHS)

    assert 0 == learner.num_steps


def test_the_calls_of_a_task_have_an_order() -> None:
    """Asking for what there is not is a mistake of the caller, said in words."""
    learner = build_learner()
    for call in (learner.step, learner.finish, learner.accept, learner.discard, learner.state_dict):
        with pytest.raises(RuntimeError, match="no task is in progress"):
            call()
    learner.begin(image_task(8), FIVE_EPOCHS)
    with pytest.raises(RuntimeError, match="task 1 is in progress"):
        learner.begin(image_task(8), FIVE_EPOCHS)
    with pytest.raises(RuntimeError, match="10 steps are left"):
        learner.finish()


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


@pytest.mark.parametrize("field", ["epochs", "batch_size"])
def test_a_configuration_without_work_is_refused(field: str) -> None:
    """The error names field and value."""
    with pytest.raises(ValueError, match=f"^{field}: 0: must be at least 1"):
        LearnerConfig(**{field: 0})
