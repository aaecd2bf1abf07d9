"""Tests of learning as several ranks: they reach the weights that one process reaches."""

import functools
import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from joined_learning import (
    METHOD,
    build_learner,
    diverge,
    draw,
    grow,
    learn,
    learn_joined,
    learn_slowly,
    overflow,
)
from torch import Tensor

from teacherd.models.augmentation import AugmentationConfig
from teacherd.models.consolidation import ConsolidationConfig
from teacherd.models.losses import DistillationConfig
from teacherd.models.memory import MemoryConfig
from teacherd.models.old_classes import NewClassesConfig
from teacherd.models.optimizer import OptimizerConfig
from teacherd.models.ranks import ALONE, EVERYTHING, Ranks, RanksRefusedError

TOLERANCE = 2e-5
"""Of any weight, relative to the largest one: the ranks' sums are rounded in another order."""
CONFIGS = {
    "method": METHOD,
    "augmented": replace(
        METHOD, augmentation=AugmentationConfig(crop_padding=1, horizontal_flip=True)
    ),
    "mixed": replace(METHOD, distillation=DistillationConfig(dust="mixed", form="fused")),
    "spatial_temporal": replace(
        METHOD, consolidation=ConsolidationConfig(kind="spatial_temporal", keep_probability=0.2)
    ),
}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of two networks, relative to the largest weight."""
    differences = [float((one[name] - other[name]).abs().max()) for name in one]
    return max(differences) / max(float(each.abs().max()) for each in one.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_several_ranks_reach_the_weights_of_one(name: str, tmp_path: Path) -> None:
    """Batches of 4 and 3 instances, which neither 2 nor 3 ranks can share evenly."""
    found = {}
    for num_ranks in (1, 2, 3):
        directory = tmp_path / str(num_ranks)
        directory.mkdir()
        task = functools.partial(learn, config=CONFIGS[name], num_instances=11)
        found[num_ranks] = learn_joined(task, num_ranks=num_ranks, directory=directory)
    (alone,) = found[1]

    assert not alone.is_joined
    for joined in found[2] + found[3]:
        assert largest_difference(alone.candidate, joined.candidate) <= TOLERANCE
        assert joined.report.losses == pytest.approx(alone.report.losses, rel=1e-4)
        assert joined.sigma == alone.sigma
    for ranks in (found[2], found[3]):
        for one, other in itertools.pairwise(ranks):
            assert all(
                torch.equal(one.candidate[key], other.candidate[key]) for key in one.candidate
            )


def test_a_rank_that_is_slow_is_waited_for(tmp_path: Path) -> None:
    """At its first look at a task, say: longer than a rank waits for one that has gone."""
    waits = timedelta(seconds=20)
    found = learn_joined(learn_slowly, num_ranks=2, directory=tmp_path, timeout=waits)

    assert found[1].seconds > waits.total_seconds()
    assert torch.equal(found[0].weights, found[1].weights)


@pytest.mark.parametrize(("groups", "class_means"), [("full", False), ("random", True)])
def test_several_ranks_grow_as_one_does(
    groups: Literal["full", "random"], tmp_path: Path, *, class_means: bool
) -> None:
    """New classes among old ones, then alone, so that a rank's share may have none of either.

    The rehearsal memory is the same to the bit, and so are all ranks' heads.
    """
    config = replace(
        METHOD,
        new_classes=NewClassesConfig(groups=groups),
        # With one there would be no absent class to be learned again by its mean.
        memory=MemoryConfig(instances_per_class=0 if class_means else 2),
        # AdamW makes whole steps of gradients that are nothing but rounding; with three tasks of
        # this network there are some.
        optimizer=OptimizerConfig(kind="sgd", learning_rate=0.01),
    )
    found = {}
    for num_ranks in (1, 2, 3):
        directory = tmp_path / str(num_ranks)
        directory.mkdir()
        task = functools.partial(grow, config=config, class_means=class_means)
        found[num_ranks] = learn_joined(task, num_ranks=num_ranks, directory=directory)
    (alone,) = found[1]

    assert (3, 2, 1) == alone.increments
    for joined in found[2] + found[3]:
        assert alone.increments == joined.increments
        assert largest_difference(alone.teacher, joined.teacher) <= TOLERANCE
        for mine, theirs in zip(alone.memory, joined.memory, strict=True):
            assert np.array_equal(mine, theirs)
    for ranks in (found[2], found[3]):
        for one, other in itertools.pairwise(ranks):
            assert all(torch.equal(one.teacher[key], other.teacher[key]) for key in one.teacher)


def test_a_rank_without_instances_weighs_nothing(tmp_path: Path) -> None:
    """Two instances in one batch leave the third of three ranks with none."""
    found = []
    for num_ranks in (1, 3):
        directory = tmp_path / str(num_ranks)
        directory.mkdir()
        task = functools.partial(learn, config=METHOD, num_instances=2)
        found += learn_joined(task, num_ranks=num_ranks, directory=directory)

    for joined in found[1:]:
        assert largest_difference(found[0].candidate, joined.candidate) <= TOLERANCE


def test_weights_that_differ_between_ranks_are_found(tmp_path: Path) -> None:
    """On every rank, so that all of them stop."""
    assert [(1,), (1,)] == learn_joined(diverge, num_ranks=2, directory=tmp_path)


def test_what_is_not_finite_on_one_rank_stops_the_step_on_all(tmp_path: Path) -> None:
    """No rank goes on alone, or waits for one that has stopped."""
    found = learn_joined(overflow, num_ranks=2, directory=tmp_path)

    assert [("fused", 1, True)] * 2 == found


def test_a_network_that_draws_is_refused_by_several_ranks_only(tmp_path: Path) -> None:
    """Its draws would be others on another number of ranks."""
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()

    assert [""] == learn_joined(draw, num_ranks=1, directory=tmp_path / "1")
    for reason in learn_joined(draw, num_ranks=2, directory=tmp_path / "2"):
        assert "dropout" in reason


def test_batch_norm_that_trains_statistics_is_refused_by_several_ranks() -> None:
    """Each rank would take the statistics of its own share."""
    config = replace(METHOD, batch_norm="train")

    with pytest.raises(RanksRefusedError, match=r"learning\.batch_norm: train: .*take frozen"):
        build_learner(config, Ranks(1, 2))


@pytest.mark.parametrize("num_instances", [1, 2, 5, 64])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_shares_cover_a_batch_once(num_instances: int, size: int) -> None:
    """Weights add up to 1, and no two shares differ by more than one instance."""
    shares = [Ranks(rank, size).share(num_instances) for rank in range(size)]
    covered = [place for each in shares if each.weight for place in range(each.start, each.end)]

    assert list(range(num_instances)) == covered
    assert sum(each.weight for each in shares) == pytest.approx(1)
    assert max(each.end - each.start for each in shares) <= -(-num_instances // size)


def test_a_process_alone_computes_everything() -> None:
    """Whatever there is of it."""
    assert EVERYTHING == ALONE.share(5)
    assert torch.equal(torch.arange(5), EVERYTHING.of(torch.arange(5)))
