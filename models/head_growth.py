"""Gives a network rows for new classes: method.md, section 5."""

import torch
from torch import Tensor, nn

from teacherd.models.backbone import BackboneConfig, NetworkFactory, build_backbone
from teacherd.models.module_tensors import module_tensors


def grow_head(
    network: nn.Module,
    config: BackboneConfig,
    *,
    num_classes: int,
    num_new: int,
    seed: int,
    factory: NetworkFactory | None = None,
) -> nn.Module:
    """Return the network with logits for new classes behind those of the old ones.

    It is built anew for all classes, and everything but the new rows is taken over, so that it
    answers about the old classes as before. The new rows are as its author initialises them.

    Args:
        network: Of `num_classes` classes; is left as it is.
        config: What it was built from.
        num_classes: Of the old network.
        num_new: Classes to add.
        seed: Of the new rows; torch's global generator is left as it is.
        factory: As for `build_backbone`.

    Raises:
        ValueError: It has no rows per class: what depends on the number of classes is something
            else than the first axis of some tensors.
    """
    if num_new < 1:
        raise ValueError(f"num_new: {num_new}: must be at least 1; without new classes keep it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wider = build_backbone(config, num_classes=num_classes + num_new, factory=factory)
    old, new = module_tensors(network), module_tensors(wider)
    if old.keys() != new.keys():
        names = ", ".join(sorted(old.keys() ^ new.keys())[:3])
        raise ValueError(f"name: {config.name}: has other tensors for more classes: {names}")
    num_grown = sum([_take_over(new[name], each, name, config) for name, each in old.items()])
    if num_grown == 0:
        raise ValueError(f"name: {config.name}: no tensor of it grows with the classes")
    device = next(iter(old.values())).device
    return wider.to(device).train(network.training)


def _take_over(new: Tensor, old: Tensor, name: str, config: BackboneConfig) -> bool:
    """Copy a tensor into the first rows of its successor; tell whether that has more."""
    if new.shape[1:] != old.shape[1:] or len(new.shape) != len(old.shape):
        raise ValueError(
            f"name: {config.name}: {name} is {tuple(old.shape)} and {tuple(new.shape)} with more "
            "classes; only the first axis may grow, a row for each class"
        )
    with torch.no_grad():
        (new[: len(old)] if old.ndim else new).copy_(old)
    return new.shape != old.shape
