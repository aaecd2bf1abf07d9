"""Making a base model from labelled data: what it learned is measured, what cannot be is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from teacherd.daemon.base_training import BaseTraining, pretrain_base
from teacherd.daemon.errors import UsageError
from teacherd.daemon.pretraining import PretrainEpoch
from teacherd.models.artifact import load_artifact, read_manifest
from teacherd.models.class_means import head_with_means, means_of


@pytest.fixture
def training(tmp_path: Path) -> BaseTraining:
    """Return a training of seconds' fraction on two classes that are easily told apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    inputs = rng.standard_normal((60, 4)).astype(np.float32) + 4 * labels[:, None]
    np.savez(
        tmp_path / "data.npz", inputs=inputs.astype(np.float32), labels=labels, classes=["a", "b"]
    )
    return BaseTraining(
        dataset=str(tmp_path / "data.npz"),
        data_root=tmp_path,
        network="mlp",
        arguments=("width=8", "depth=1"),
        epochs=5,
        learning_rate=0.03,
        holdout_share=0.2,
        seed=3,
        device="cpu",
        out=tmp_path / "base",
    )


def ignore(_epoch: PretrainEpoch) -> None:
    """Take no notice of progress."""


def test_a_base_model_comes_of_labelled_data(training: BaseTraining) -> None:
    """It is written, measured on what was kept out, and the report says what to do next."""
    epochs: list[PretrainEpoch] = []

    report = pretrain_base(training, on_epoch=epochs.append)
    loaded = load_artifact(training.out)

    assert [1, 2, 3, 4, 5] == [epoch.number for epoch in epochs]
    assert (48, 12, 2) == (report["instances"], report["held_out"], report["classes"])
    assert report["accuracy.held_out"] > 0.9
    assert ("a", "b") == loaded.manifest.classes
    assert {"width": 8, "depth": 1} == loaded.manifest.architecture.arguments
    assert report["sha256"] == loaded.manifest.weights_sha256
    assert str(training.out) in report["next"]


def test_the_same_seed_gives_the_same_weights(training: BaseTraining) -> None:
    """And another seed others; the process's own random state has no part in it."""
    digests = [
        pretrain_base(replace(training, seed=seed), on_epoch=ignore)["sha256"] for seed in (1, 1, 2)
    ]

    assert digests[0] == digests[1]
    assert digests[1] != digests[2]


def test_what_was_trained_on_gives_the_means_of_its_classes(training: BaseTraining) -> None:
    """Those of what was kept out are no part of it; nothing else about the weights is different."""
    pretrain_base(replace(training, class_means=True), on_epoch=ignore)
    with_means = load_artifact(training.out)
    pretrain_base(replace(training, out=training.out.with_name("plain")), on_epoch=ignore)
    plain = load_artifact(training.out.with_name("plain"))
    head = head_with_means(with_means.network)

    assert head is not None
    assert 48 == means_of(head)[1].sum()
    assert bool(means_of(head)[0].any(dim=1).all())
    state = with_means.network.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in plain.network.state_dict().items())


def test_without_a_holdout_everything_is_trained_on(training: BaseTraining) -> None:
    """Then there is no held-out accuracy to tell."""
    report = pretrain_base(replace(training, holdout_share=0), on_epoch=ignore)

    assert (60, 0) == (report["instances"], report["held_out"])
    assert "accuracy.held_out" not in read_manifest(training.out).metrics


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"dataset": "nowhere"}, "no known name"),
        ({"network": "nonet"}, "--network: "),
        ({"network": "small_cnn"}, "--network: "),
        ({"arguments": ("width",)}, "--argument"),
        ({"arguments": ("colour=3",)}, "--network: "),
        ({"epochs": 0}, "epochs: 0"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate: nan"),
        ({"seed": -1}, "--seed: -1"),
        ({"device": "gpu"}, "--device: 'gpu'"),
        ({"holdout_share": 0.99}, "--holdout-share: 0.99 leaves 1 of 60"),
    ],
)
def test_what_cannot_be_trained_is_told(
    training: BaseTraining, values: dict[str, object], reason: str
) -> None:
    """A usage error that names flag and value; nothing is written."""
    with pytest.raises(UsageError) as caught:
        pretrain_base(replace(training, **values), on_epoch=ignore)  # type: ignore[arg-type]  # parametrised

    assert reason in str(caught.value)
    assert not training.out.exists()


def test_a_taken_place_is_told_before_the_work(training: BaseTraining) -> None:
    """Nobody waits for a training whose result cannot be kept."""
    training.out.write_bytes(b"mine")

    with pytest.raises(UsageError, match="no base model"):
        pretrain_base(replace(training, dataset="nowhere"), on_epoch=ignore)
