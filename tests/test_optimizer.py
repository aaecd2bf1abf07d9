"""Tests of the optimizer: which one it is, and its state as flat tensors."""

import math

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from teacherd.models.optimizer import (
    OptimizerConfig,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
)


def gradients(step: int, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return made-up gradients, the same for every step of that number."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(each.shape, generator=generator) for each in parameters]


def run(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    """Make some steps."""
    for step in steps:
        for parameter, gradient in zip(parameters, gradients(step, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()


def naive_sgd(values: list[Tensor], num_steps: int) -> list[Tensor]:
    """Return where plain SGD with momentum 0.8 and weight decay 0.1 ends, at rate 0.05."""
    values = [value.double() for value in values]
    velocity = [torch.zeros_like(value) for value in values]
    for step in range(num_steps):
        slopes = gradients(step, [nn.Parameter(value) for value in values])
        for n, slope in enumerate(slopes):
            velocity[n] = 0.8 * velocity[n] + slope.double() + 0.1 * values[n]
            values[n] = values[n] - 0.05 * velocity[n]
    return values


def build_parameters() -> list[nn.Parameter]:
    """Return two parameters of different shapes."""
    return [nn.Parameter(torch.ones(3)), nn.Parameter(torch.full((2, 2), -2.0))]


def test_sgd_is_the_formula() -> None:
    """Momentum, weight decay and the given learning rate, five steps."""
    parameters = build_parameters()
    config = OptimizerConfig(kind="sgd", momentum=0.8, weight_decay=0.1, learning_rate=9.0)
    optimizer = build_optimizer(config, parameters=parameters, learning_rate=0.05)
    run(optimizer, parameters, range(5))

    for expected, found in zip(naive_sgd(build_parameters(), 5), parameters, strict=True):
        torch.testing.assert_close(expected, found.detach().double(), atol=1e-5, rtol=1e-5)


def test_adamw_is_torchs() -> None:
    """The other kind equals torch's own AdamW with the same numbers."""
    ours, theirs = build_parameters(), build_parameters()
    config = OptimizerConfig(kind="adamw", momentum=0.8, weight_decay=0.1)
    run(build_optimizer(config, parameters=ours, learning_rate=0.01), ours, range(5))
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=(0.8, 0.999), weight_decay=0.1)
    run(reference, theirs, range(5))

    for expected, found in zip(theirs, ours, strict=True):
        torch.testing.assert_close(expected, found)


@pytest.mark.parametrize("num_steps", [0, 1, 4])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_restored_optimizer_goes_on_bit_for_bit(
    kind: str, momentum: float, num_steps: int
) -> None:
    """Through safetensors, also before the first step and without momentum."""
    config = OptimizerConfig(kind=kind, momentum=momentum)  # type: ignore[arg-type] # parametrised
    straight = build_parameters()
    optimizer = build_optimizer(config, parameters=straight, learning_rate=0.01)
    run(optimizer, straight, range(num_steps))
    saved = safetensors.torch.save(optimizer_tensors(optimizer))
    resumed = [nn.Parameter(parameter.detach().clone()) for parameter in straight]
    run(optimizer, straight, range(num_steps, 8))

    restored = build_optimizer(config, parameters=resumed, learning_rate=0.01)
    load_optimizer_tensors(restored, safetensors.torch.load(saved))
    run(restored, resumed, range(num_steps, 8))

    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("gradient_clip", float("inf")),
        ("momentum", 1.0),
        ("warmup_share", 1.0),
        ("weight_decay", -1e-3),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: float) -> None:
    """The error names field and value."""
    with pytest.raises(ValueError, match=f"^{field}: {value}"):
        OptimizerConfig(**{field: value})


def test_the_learning_rate_warms_up_and_falls() -> None:
    """Linearly over the given share of the steps, on top of half a cosine."""
    config = OptimizerConfig(warmup_share=0.25)
    plain = OptimizerConfig(warmup_share=0.0)
    shares = [config.factor(step, 16) / plain.factor(step, 16) for step in range(16)]

    assert pytest.approx([0.25, 0.5, 0.75, *[1.0] * 13]) == shares
    assert pytest.approx((1 + math.cos(math.pi * 15 / 16)) / 2) == config.factor(15, 16)


def test_a_task_of_few_steps_is_learned_at_the_full_rate() -> None:
    """A warm-up shorter than a step is none: a task of one step must not be learned at rate 0."""
    config = OptimizerConfig(decay="none")

    assert [1.0] == [config.factor(0, 1)]
    assert [1.0] * 10 == [config.factor(step, 10) for step in range(10)]
