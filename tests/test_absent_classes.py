"""Old classes without instances: learned again by the mean embeddings that a version carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from growing_learners import accuracy, are_equal, tensors
from tiny_networks import FEATURE_PREPROCESSING, NUM_FEATURES
from torch import Tensor, nn

from teacherd.models.absent_classes import AbsentClasses
from teacherd.models.artifact import load_artifact, read_manifest, write_artifact
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.batches import Batch
from teacherd.models.class_means import attach_class_means, head_with_means, means_of
from teacherd.models.design import Design
from teacherd.models.embedding import Embedder
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.mean_taking import take_class_means
from teacherd.models.memory import MemoryConfig
from teacherd.models.old_classes import NewClassesConfig
from teacherd.models.provenance import Provenance
from teacherd.models.task import Schedule, Task

CPU = torch.device("cpu")
WITH_MEANS = BackboneConfig(
    name="mlp",
    input_shape=(NUM_FEATURES,),
    arguments={"width": 32, "depth": 1},
    class_means=True,
)
ADOPTED = Provenance(lineage="", verdict={}, metrics={}, created_at="2026-11-28T12:00:00+00:00")
SCHEDULE = Schedule(seed=0, epochs=20, learning_rate=0.01)
CONFIG = LearnerConfig(batch_size=16)


def task_of(classes: tuple[int, ...], *, number: int, num_new: int = 0) -> Task:
    """Return thirty points of a cloud for each class."""
    rng = np.random.default_rng(number)
    centres = 3 * np.random.default_rng(0).standard_normal((10, NUM_FEATURES))
    labels = np.array(classes * 30, dtype=np.int64)
    inputs = centres[labels] + rng.standard_normal((len(labels), NUM_FEATURES))
    return Task(
        number=number, inputs=inputs.astype(np.float32), labels=labels, num_new_classes=num_new
    )


OLD = task_of((0, 1, 2), number=1)
NEW = task_of((3, 4), number=2, num_new=2)
LAST = task_of((5,), number=3, num_new=1)


def build_learner(
    config: LearnerConfig = CONFIG, *, architecture: BackboneConfig = WITH_MEANS
) -> Learner:
    """Return a learner of three classes; what carries means has none of any yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = build_backbone(architecture, num_classes=3)
    return Learner(
        config,
        teacher=teacher,
        preprocessing=FEATURE_PREPROCESSING,
        sigma=0.5,
        device=CPU,
        architecture=architecture,
    )


def learn(learner: Learner, *tasks: Task) -> Learner:
    """Let it learn and accept tasks."""
    for task in tasks:
        learner.learn(task, SCHEDULE)
        learner.accept()
    return learner


def means(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Return copies of what a network carries."""
    head = head_with_means(network)
    assert head is not None
    means_KE, counts_K = means_of(head)
    return means_KE.clone(), counts_K.clone()


def test_old_classes_that_never_come_again_stay_known() -> None:
    """Two increments of new classes alone; without means the old are taken for new ones."""
    without = replace(WITH_MEANS, class_means=False)
    results = {}
    for architecture in (WITH_MEANS, without):
        learner = learn(build_learner(architecture=architecture), OLD, NEW, LAST)
        seen = [accuracy(learner, task_of(each, number=9)) for each in ((0, 1, 2), (3, 4), (5,))]
        results[architecture.class_means] = seen

    assert min(results[True]) > 0.8
    assert np.mean(results[True]) > np.mean(results[False]) + 0.1


def test_means_are_those_of_all_instances_ever_learned() -> None:
    """A class's embeddings by the version that came of each task, each instance counted once."""
    learner = learn(build_learner(), OLD)
    embedder = Embedder(
        learner.teacher, preprocessing=FEATURE_PREPROCESSING, device=CPU, batch_size=64
    )
    first = embedder.embed(OLD.inputs[OLD.labels == 0]).mean(0)
    found_KE, counts_K = means(learner.teacher)

    assert [30, 30, 30] == counts_K.tolist()
    torch.testing.assert_close(first, found_KE[0])
    again = task_of((0, 1), number=4)
    learn(learner, again)
    embedder = Embedder(
        learner.teacher, preprocessing=FEATURE_PREPROCESSING, device=CPU, batch_size=64
    )
    second = embedder.embed(again.inputs[again.labels == 0]).mean(0)
    after_KE, counts_K = means(learner.teacher)
    assert [60, 60, 30] == counts_K.tolist()
    torch.testing.assert_close((first + second) / 2, after_KE[0])
    assert torch.equal(found_KE[2], after_KE[2]), "nothing came of it"


def test_only_the_last_layer_is_trained_while_a_class_is_absent() -> None:
    """Means would be of embeddings that are no more; with all of them there, all is trained."""
    learner = learn(build_learner(), OLD)
    before = tensors(learner.teacher)
    learner.learn(NEW, SCHEDULE)
    changed = {
        name
        for name, each in tensors(learner.student).items()
        if not torch.equal(each[: len(before[name])], before[name])
    }
    assert {"head.weight", "head.bias"} == changed
    learner.discard()
    learner.learn(task_of((0, 1, 2, 3), number=2, num_new=1), SCHEDULE)
    assert not torch.equal(learner.student.features[1].weight, before["features.1.weight"])


def test_a_memory_of_all_classes_makes_means_unnecessary() -> None:
    """Nothing is absent then: bit for bit what is learned without them."""
    config = replace(CONFIG, memory=MemoryConfig(instances_per_class=3))
    states = []
    for architecture in (WITH_MEANS, replace(WITH_MEANS, class_means=False)):
        learner = learn(build_learner(config, architecture=architecture), OLD, NEW)
        states.append({k: v for k, v in tensors(learner.teacher).items() if "head.class" not in k})

    assert are_equal(*states)


def test_means_can_be_left_unused() -> None:
    """`new_classes.means: false` learns as without, and goes on counting."""
    config = replace(CONFIG, new_classes=NewClassesConfig(means=False))
    states = []
    for architecture in (WITH_MEANS, replace(WITH_MEANS, class_means=False)):
        learner = learn(build_learner(config, architecture=architecture), OLD, NEW)
        states.append(tensors(learner.teacher))

    assert [30] * 5 == states[0].pop("head.class_counts").tolist()
    del states[0]["head.class_means"]
    assert are_equal(*states)


def test_a_class_without_a_mean_is_not_learned_again() -> None:
    """A base model that was adopted without data has none: it learns as one that carries none."""
    plain = build_learner(architecture=replace(WITH_MEANS, class_means=False))
    carrying = build_learner()
    for learner in (plain, carrying):
        learner.learn(NEW, SCHEDULE)

    found = {k: v for k, v in tensors(carrying.candidate).items() if "head.class" not in k}
    assert are_equal(found, tensors(plain.candidate))
    assert [0, 0, 0, 30, 30] == means(carrying.candidate)[1].tolist()


@pytest.mark.parametrize("num_steps", [0, 30, 80])
def test_a_resumed_task_ends_as_one_that_was_never_interrupted(num_steps: int) -> None:
    """As bits, means included; also after the last step, when these have been taken."""
    straight, broken, resumed = (learn(build_learner(), OLD) for _ in range(3))
    expected = straight.learn(NEW, SCHEDULE)
    broken.begin(NEW, SCHEDULE)
    for _ in range(num_steps):
        broken.step()
    saved = safetensors.torch.save(broken.state_dict())
    resumed.begin(NEW, SCHEDULE)
    resumed.load_state_dict(safetensors.torch.load(saved))
    while resumed.step():
        pass

    assert 80 == straight.num_steps
    assert expected == resumed.finish()
    assert are_equal(tensors(straight.candidate), tensors(resumed.candidate))
    assert are_equal(tensors(straight.student), tensors(resumed.student))


def test_a_discarded_task_leaves_no_mean() -> None:
    """What is counted is in the candidate alone until that is accepted."""
    learner = learn(build_learner(), OLD)
    before = tensors(learner.teacher)
    learner.learn(NEW, SCHEDULE)
    learner.discard()

    assert are_equal(before, tensors(learner.teacher))


def test_an_instance_is_moved_from_mean_to_mean() -> None:
    """What it differs in from its class stays; after a ReLU nothing becomes negative."""
    head = nn.Linear(2, 3)
    attach_class_means(head, num_classes=3)
    means_KE = torch.tensor([[0.0, 1.0], [5.0, 5.0], [2.0, 2.0]])
    batch = Batch(
        inputs=torch.zeros(4, 2),
        labels=torch.full((4,), 2),
        places=torch.arange(4),
        is_augmented=False,
    )
    embedding_BE = torch.tensor([[1.0, 2.0], [2.0, 3.0], [3.0, 0.0], [2.0, 2.0]])
    for is_rectified in (False, True):
        absent = AbsentClasses(
            student=head,
            teacher=head,
            means_KE=means_KE,
            classes=(0, 1),
            num_present=1,
            is_rectified=is_rectified,
        )
        imagined_ME, labels_M = absent.imagine(embedding_BE, batch, torch.Generator())

        expected_ME = means_KE[labels_M] + (embedding_BE - means_KE[2]).repeat_interleave(2, 0)
        torch.testing.assert_close(
            expected_ME.clamp(min=0) if is_rectified else expected_ME, imagined_ME
        )
        assert {0, 1} == set(labels_M.tolist())


def test_a_version_carries_its_means(tmp_path: Path) -> None:
    """In its weights, so that they go where these go; its manifest says so, others do not."""
    learner = learn(build_learner(), OLD)
    for architecture, network in (
        (WITH_MEANS, learner.teacher),
        (
            replace(WITH_MEANS, class_means=False),
            build_learner(architecture=replace(WITH_MEANS, class_means=False)).teacher,
        ),
    ):
        folder = tmp_path / str(architecture.class_means)
        folder.mkdir()
        design = Design(
            architecture=architecture, classes=("a", "b", "c"), preprocessing=FEATURE_PREPROCESSING
        )
        write_artifact(folder, network, design, ADOPTED)
        assert architecture == read_manifest(folder).architecture
        has_key = "class_means" in (folder / "manifest.json").read_text()
        assert has_key is architecture.class_means
    loaded = load_artifact(tmp_path / "True").network

    assert are_equal(tensors(learner.teacher), tensors(loaded))


def test_a_data_set_gives_a_base_model_its_means() -> None:
    """Instances of all classes at once, as `teacherd pretrain --class-means` does."""
    network = build_learner().teacher
    take_class_means(
        network, OLD.inputs, OLD.labels, preprocessing=FEATURE_PREPROCESSING, device=CPU
    )

    assert [30, 30, 30] == means(network)[1].tolist()
    assert bool(means(network)[0].any(dim=1).all())


def test_a_network_that_ends_in_no_linear_layer_carries_none() -> None:
    """It has no embedding that a class could have the mean of."""
    network = nn.Sequential(nn.Linear(4, 2), nn.Flatten())

    with pytest.raises(ValueError, match="class_means: true: there is no linear layer"):
        attach_class_means(network, num_classes=3)
