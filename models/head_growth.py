"""Gives a network rows for new classes: method.md, section 5."""

import copy

import torch
from torch import nn

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
    try:
        num_grown = _take_over(wider, network)
    except ValueError as error:
        raise ValueError(f"name: {config.name}: {error}") from error
    if num_grown == 0:
        raise ValueError(f"name: {config.name}: no tensor of it grows with the classes")
    device = next(network.parameters()).device
    return wider.to(device).train(network.training)


def widened(network: nn.Module, *, like: nn.Module) -> nn.Module:
    """Return a network with the new rows of another that has grown from it, in eval mode.

    method.md, section 5: the teacher's new rows are the student's at the first consolidation (O).

    Args:
        network: Of the old classes; is left as it is.
        like: Of all classes; is left as it is.
    """
    wider = copy.deepcopy(like).requires_grad_(requires_grad=False).eval()
    wider.zero_grad()
    _take_over(wider, network)
    return wider


@torch.no_grad()
def _take_over(wider: nn.Module, network: nn.Module) -> int:
    """Copy all tensors of a network into the first rows of its successor's; count the longer ones.

    Raises:
        ValueError: Names the tensor that cannot be.
    """
    old, new = module_tensors(network), module_tensors(wider)
    if old.keys() != new.keys():
        names = ", ".join(sorted(old.keys() ^ new.keys())[:3])
        raise ValueError(f"has other tensors for more classes: {names}")
    for name, mine in old.items():
        theirs = new[name]
        if theirs.shape[1:] != mine.shape[1:] or theirs.ndim != mine.ndim:
            raise ValueError(
                f"{name} is {tuple(mine.shape)} and {tuple(theirs.shape)} with more classes; only "
                "the first axis may grow, a row for each class"
            )
        (theirs[: len(mine)] if mine.ndim else theirs).copy_(mine)
    return sum(new[name].shape != mine.shape for name, mine in old.items())
