"""Two versions compared: the largest difference of a weight, and how often they agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from base_models import untrained_base

from teacherd.daemon.comparison import compare_teachers
from teacherd.models.artifact import LoadedTeacher, load_artifact

INPUTS = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
CPU = torch.device("cpu")


@pytest.fixture
def teacher(tmp_path: Path) -> LoadedTeacher:
    """Give a network of four features."""
    return load_artifact(untrained_base(tmp_path))


def other(tmp_path: Path) -> LoadedTeacher:
    """Return the same network once more."""
    return load_artifact(tmp_path / "base")


def test_the_same_weights_are_no_distance_apart(teacher: LoadedTeacher, tmp_path: Path) -> None:
    """And agree on everything."""
    found = compare_teachers(teacher, other(tmp_path), INPUTS, device=CPU)

    assert (0.0, 1.0) == (found.largest_difference, found.agreement)


def test_the_largest_difference_is_found_wherever_it_is(
    teacher: LoadedTeacher, tmp_path: Path
) -> None:
    """Of all weights, whatever its sign."""
    changed = other(tmp_path)
    with torch.no_grad():
        parameters = list(changed.network.parameters())
        parameters[0].view(-1)[0] += 0.125
        parameters[-1].view(-1)[-1] -= 0.25
    found = compare_teachers(teacher, changed, INPUTS, device=CPU)

    assert 0.25 == pytest.approx(found.largest_difference)


def test_agreement_is_the_share_of_equal_answers(teacher: LoadedTeacher, tmp_path: Path) -> None:
    """Held against a count by hand, over more than one batch."""
    changed = other(tmp_path)
    with torch.no_grad():
        list(changed.network.parameters())[-1][0] += 0.3
    found = compare_teachers(teacher, changed, INPUTS, device=CPU)
    with torch.no_grad():
        one, two = (each.network(torch.from_numpy(INPUTS)).argmax(1) for each in (teacher, changed))
    by_hand = sum(int(a == b) for a, b in zip(one, two, strict=True)) / len(INPUTS)

    assert 0 < by_hand < 1
    assert by_hand == pytest.approx(found.agreement)
    assert replace(found, agreement=1.0) != found
