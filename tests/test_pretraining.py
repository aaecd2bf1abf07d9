"""Tests of the trainer of base models."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from teacherd.daemon.pretraining import (
    DivergedError,
    PretrainConfig,
    PretrainEpoch,
    num_batches,
    pretrain,
)
from teacherd.models.preprocessing import Preprocessing

CPU = torch.device("cpu")
RNG = np.random.default_rng(8)
LABELS = RNG.integers(0, 3, 100)
INPUTS = (RNG.normal(size=(100, 4)) + 3 * np.eye(3, 4)[LABELS]).astype(np.float32)
PREPROCESSING = Preprocessing.fit(INPUTS)


def tiny_network(*layers: nn.Module) -> nn.Module:
    """Make a linear classifier of four features with a fixed start, after the given layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*layers, nn.Linear(4, 3))


def run(network: nn.Module, *, seed: int = 1, **settings: float) -> PretrainEpoch:
    """Pretrain on the module's data."""
    config = PretrainConfig(**{"epochs": 3, "batch_size": 16, **settings})
    return pretrain(
        network, INPUTS, LABELS, config=config, preprocessing=PREPROCESSING, seed=seed, device=CPU
    )


def weights(network: nn.Module) -> list[float]:
    """Return all parameters as one list."""
    return torch.cat([parameter.flatten() for parameter in network.parameters()]).tolist()


def test_it_equals_a_naive_loop() -> None:
    """AdamW over equal batches of a seeded order, warm-up over a twentieth, cosine to 0."""
    trained, naive = tiny_network(), tiny_network()
    num_steps, step = 3 * 6, 0
    optimizer = torch.optim.AdamW(naive.parameters(), weight_decay=0.05)
    normalised = PREPROCESSING.apply(torch.from_numpy(INPUTS))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for _ in range(3):
            for places in np.array_split(torch.randperm(100).numpy(), 6):
                cosine = (1 + math.cos(math.pi * (step - 1) / (num_steps - 1))) / 2
                optimizer.param_groups[0]["lr"] = 0.01 * (1.0 if step == 0 else cosine)
                logits = naive(normalised[places])
                loss = nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[places]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1

    run(trained, learning_rate=0.01)

    assert weights(naive) == weights(trained)


def test_it_learns() -> None:
    """Classes that lie apart are told apart, and the last epoch's figures say so."""
    last = run(tiny_network(), epochs=30, learning_rate=0.1)

    assert last.accuracy > 0.9
    assert last.loss < 0.3


def test_a_seed_gives_the_same_weights_again() -> None:
    """The network's own draws are seeded too, whatever the process drew before."""
    networks = [tiny_network(nn.Dropout(0.5)) for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        torch.rand(3)
        run(network, seed=seed)

    assert weights(networks[0]) == weights(networks[1])
    assert weights(networks[0]) != weights(networks[2])


def test_the_random_state_of_the_process_is_left_alone() -> None:
    """Whoever draws after pretraining draws what they would have drawn without it."""
    before = torch.get_rng_state()

    run(tiny_network(nn.Dropout(0.5)))

    assert torch.equal(before, torch.get_rng_state())


def test_every_epoch_is_told() -> None:
    """The callback hears of each epoch by its number; the last one is what is returned."""
    heard: list[PretrainEpoch] = []
    last = pretrain(
        tiny_network(),
        INPUTS,
        LABELS,
        config=PretrainConfig(epochs=3),
        preprocessing=PREPROCESSING,
        seed=0,
        device=CPU,
        on_epoch=heard.append,
    )

    assert [(1, 3), (2, 3), (3, 3)] == [(epoch.number, epoch.num_epochs) for epoch in heard]
    assert last is heard[-1]


def test_the_network_ends_in_eval_mode() -> None:
    """A base model is served as it is returned."""
    network = tiny_network()

    run(network)

    assert not network.training


def test_a_loss_that_is_no_number_stops_it() -> None:
    """The error says when and what to do, and the weights are those before that step."""
    network = tiny_network()
    before = weights(network)
    inputs = np.full_like(INPUTS, np.nan)

    with pytest.raises(DivergedError, match="nan in epoch 1; lower the learning rate"):
        pretrain(
            network,
            inputs,
            LABELS,
            config=PretrainConfig(epochs=1),
            preprocessing=PREPROCESSING,
            seed=0,
            device=CPU,
        )
    assert before == weights(network)


def test_one_step_is_enough_to_pretrain() -> None:
    """A single batch in a single epoch is warm-up and end at once."""
    network = tiny_network()
    before = weights(network)

    run(network, epochs=1, batch_size=1000)

    assert before != weights(network)


@given(num_instances=st.integers(2, 500), batch_size=st.integers(1, 100))
def test_no_batch_is_too_small_for_batch_norm(num_instances: int, batch_size: int) -> None:
    """Batches differ by one instance at most, and none has a single one."""
    count = num_batches(num_instances, batch_size)
    sizes = [len(part) for part in torch.tensor_split(torch.zeros(num_instances), count)]

    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(2, num_instances)
    assert max(sizes) <= max(3, 1.5 * batch_size)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("weight_decay", math.inf),
    ],
)
def test_settings_that_mean_nothing_are_refused(field: str, value: float) -> None:
    """The error begins with the field and shows the value."""
    with pytest.raises(ValueError, match=f"^{field}: {value}"):
        PretrainConfig(**{field: value})
