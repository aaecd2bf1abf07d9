"""Making a base model from labelled data: split, train, measure, write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from teacherd.daemon.base_model import parse_arguments, require_place, write_base
from teacherd.daemon.dataset import Dataset
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.demo_stream import stratified_order
from teacherd.daemon.device import find_device
from teacherd.daemon.errors import UsageError
from teacherd.daemon.pretraining import PretrainConfig, PretrainEpoch, pretrain
from teacherd.models.artifact import Manifest
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.design import Design
from teacherd.models.evaluation import evaluate
from teacherd.models.mean_taking import take_class_means
from teacherd.models.preprocessing import Preprocessing

_MIN_INSTANCES = 2  # BatchNorm cannot learn from one


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseTraining:
    """What `teacherd pretrain` is told; texts as typed."""

    dataset: str
    data_root: Path
    network: str
    arguments: tuple[str, ...]
    epochs: int
    learning_rate: float
    holdout_share: float
    seed: int
    device: str
    class_means: bool = False
    out: Path


def pretrain_base(
    training: BaseTraining, *, on_epoch: Callable[[PretrainEpoch], None]
) -> dict[str, Any]:
    """Train a base model on a data set but for a holdout, and write it.

    Returns:
        What came of it, for people.

    Raises:
        UsageError: The data set, the network or the place cannot be used.
        DivergedError: The loss is no longer a number.
    """
    require_place(training.out)
    device = _device(training.device)
    config = _config(training)
    dataset = load_dataset(training.dataset, root=training.data_root)
    order = stratified_order(dataset.labels, np.random.default_rng(training.seed))
    num_held_out = round(len(dataset) * training.holdout_share)
    held_out, kept = dataset.take(order[:num_held_out]), dataset.take(order[num_held_out:])
    if len(kept) < _MIN_INSTANCES:
        raise UsageError(
            f"--holdout-share: {training.holdout_share} leaves {len(kept)} of {len(dataset)} "
            f"instances to train on; {_MIN_INSTANCES} or more are wanted"
        )
    manifest = train_base(
        kept,
        held_out=held_out,
        network=training.network,
        arguments=parse_arguments(training.arguments),
        config=config,
        seed=training.seed,
        device=device,
        class_means=training.class_means,
        out=training.out,
        on_epoch=on_epoch,
    )
    return {
        "dataset": dataset.name,
        "network": training.network,
        "classes": len(dataset.classes),
        "instances": len(kept),
        "held_out": len(held_out),
        **manifest.metrics,
        "sha256": manifest.weights_sha256,
        "next": f"set model.base: {training.out} and start `teacherd run`",
    }


def train_base(
    dataset: Dataset,
    *,
    held_out: Dataset,
    network: str,
    arguments: dict[str, bool | int | float | str],
    config: PretrainConfig,
    seed: int,
    device: torch.device,
    class_means: bool = False,
    out: Path,
    on_epoch: Callable[[PretrainEpoch], None],
) -> Manifest:
    """Train a fresh network, measure it on what was held out (if anything), write the base model.

    Raises:
        UsageError: There is no such network, or it does not take such inputs.
    """
    try:
        architecture = BackboneConfig(
            name=network,
            input_shape=dataset.input_shape,
            arguments=arguments,
            class_means=class_means,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fresh = build_backbone(architecture, num_classes=len(dataset.classes)).to(device)
    except ValueError as error:
        raise UsageError(f"--network: {error}") from error
    preprocessing = Preprocessing.fit(dataset.inputs)
    last = pretrain(
        fresh,
        dataset.inputs,
        dataset.labels,
        config=config,
        preprocessing=preprocessing,
        seed=seed,
        device=device,
        on_epoch=on_epoch,
    )
    take_class_means(
        fresh, dataset.inputs, dataset.labels, preprocessing=preprocessing, device=device
    )
    metrics = {"accuracy.training": last.accuracy}
    if len(held_out):
        measured = evaluate(
            fresh, held_out.inputs, held_out.labels, preprocessing=preprocessing, device=device
        )
        metrics["accuracy.held_out"] = measured.accuracy
    return write_base(
        out,
        fresh.cpu(),
        Design(architecture=architecture, classes=dataset.classes, preprocessing=preprocessing),
        metrics=metrics,
    )


def _device(name: str) -> torch.device:
    try:
        return find_device(name)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error


def _config(training: BaseTraining) -> PretrainConfig:
    if training.seed < 0:
        raise UsageError(f"--seed: {training.seed}: must not be negative; take 0")
    try:
        return PretrainConfig(epochs=training.epochs, learning_rate=training.learning_rate)
    except ValueError as error:
        raise UsageError(str(error)) from error
