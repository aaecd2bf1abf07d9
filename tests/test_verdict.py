"""The verdict: whatever is finite is accepted and served, nothing else ever is."""

import math

import pytest
import torch
from torch import nn

from teacherd.daemon.verdict import Verdict, decide


def network() -> nn.Module:
    """Return a network with parameters, float buffers and an integer buffer."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_finite_candidate_is_accepted_and_served() -> None:
    """Integer buffers, such as BatchNorm's counter, are no obstacle."""
    assert Verdict(result="accepted", should_publish=True) == decide(network())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_a_candidate_with_one_bad_number_is_held(name: str, value: float) -> None:
    """One such weight or statistic would spread over every later version."""
    candidate = network()
    with torch.no_grad():
        candidate.state_dict()[name].view(-1)[1] = value

    verdict = decide(candidate)

    assert ("held", False) == (verdict.result, verdict.should_publish)
    assert (f"not finite: {name}",) == verdict.reasons
