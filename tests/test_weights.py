"""Weights as bytes: deterministic, complete, and refused when they do not fit."""

import hashlib
import pickle
import zipfile
from io import BytesIO

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from teacherd.models.weights import (
    WeightsError,
    deserialize_weights,
    fill_network,
    serialize_weights,
)


def small_network(seed: int = 0) -> nn.Module:
    """A network with every kind of tensor: convolution, BatchNorm statistics, integer counter."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def read(data: bytes) -> dict[str, Tensor]:
    """Deserialise with the digest that belongs to the bytes."""
    return deserialize_weights(data, sha256=hashlib.sha256(data).hexdigest())


def test_same_weights_give_the_same_bytes_whatever_their_layout() -> None:
    """Copies, memory format, order of registration and tensor views do not change the digest."""
    network = small_network()
    expected = serialize_weights(network)

    relaid = small_network(seed=1)
    relaid.load_state_dict(network.state_dict())
    relaid.to(memory_format=torch.channels_last)
    assert expected == serialize_weights(relaid)

    stored = torch.zeros(3, 2)
    view = nn.Linear(3, 2, bias=False)
    view.weight = nn.Parameter(stored.t())
    plain = nn.Linear(3, 2, bias=False)
    plain.weight = nn.Parameter(torch.zeros(2, 3))
    assert serialize_weights(plain) == serialize_weights(view)


def test_other_weights_give_other_bytes() -> None:
    """One changed element changes the bytes; so does the integer counter of BatchNorm."""
    network = small_network()
    before = serialize_weights(network)

    network[1].num_batches_tracked += 1

    assert before != serialize_weights(network)


def test_weights_come_back_bit_for_bit() -> None:
    """Serialise, deserialise, fill: every tensor is equal, integers included."""
    source, target = small_network(seed=0), small_network(seed=1)
    source[1].num_batches_tracked += 7

    fill_network(target, read(serialize_weights(source)))

    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name


def test_tied_weights_survive() -> None:
    """A network that uses one tensor twice is kept and filled."""
    source, target = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    source[1].weight = source[0].weight

    fill_network(target, read(serialize_weights(source)))

    assert torch.equal(source[0].weight, target[1].weight)


def test_state_that_is_no_tensor_is_refused() -> None:
    """What could only be kept by pickle is not kept silently incomplete."""

    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

    with pytest.raises(ValueError, match="_extra_state: dict"):
        serialize_weights(Odd(1, 1))


def test_large_finite_weights_are_accepted_though_their_sum_overflows() -> None:
    """Only NaN and infinity are refused, not what adds up to infinity."""
    network = nn.Linear(4, 2)
    nn.init.constant_(network.weight, 3e38)

    fill_network(nn.Linear(4, 2), read(serialize_weights(network)))


def test_opposite_infinities_are_refused() -> None:
    """They must not cancel out."""
    network = nn.Linear(2, 1)
    network.weight.data = torch.tensor([[torch.inf, -torch.inf]])

    with pytest.raises(WeightsError):
        fill_network(nn.Linear(2, 1), read(serialize_weights(network)))


def archive() -> bytes:
    """What torch.save writes: a zip archive around a pickle."""
    buffer = BytesIO()
    torch.save(small_network().state_dict(), buffer)
    assert zipfile.is_zipfile(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        (2**63 - 1).to_bytes(8, "little") + b"{}",
        pickle.dumps({"a": 1}),
        archive(),
        serialize_weights(small_network())[:-1],
        serialize_weights(small_network()) + b"+",
    ],
)
def test_bytes_that_are_no_safetensors_are_refused(data: bytes) -> None:
    """Also if their digest is right: empty, cut, padded, pickled, or a giant header."""
    with pytest.raises(WeightsError) as raised:
        read(data)

    assert "format" == raised.value.reason


def test_one_flipped_bit_is_noticed() -> None:
    """The digest is checked before anything else looks at the bytes."""
    data = bytearray(serialize_weights(small_network()))
    sha256 = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1

    with pytest.raises(WeightsError) as raised:
        deserialize_weights(bytes(data), sha256=sha256)

    assert "checksum" == raised.value.reason


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """Return good tensors with some replaced, added or (None) left out."""
    tensors: dict[str, Tensor | None] = dict(read(serialize_weights(small_network())))
    for name, tensor in changes.items():
        tensors[name.replace("_", ".", 1)] = tensor
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"3_weight": None}, "tensors", "3.weight"),
        ({"9_weight": torch.zeros(1)}, "tensors", "9.weight"),
        ({"3_weight": torch.zeros(3, 4)}, "tensors", "3.weight"),
        ({"3_weight": torch.zeros(2, 4, dtype=torch.float16)}, "tensors", "3.weight"),
        ({"3_weight": torch.full((2, 4), torch.nan)}, "nonfinite", "3.weight"),
        ({"1_running_mean": torch.tensor([0, torch.inf, 0, 0])}, "nonfinite", "1.running_mean"),
    ],
)
def test_tensors_that_do_not_fit_leave_the_network_untouched(
    changes: dict[str, Tensor | None], reason: str, named: str
) -> None:
    """All are checked before the first is copied."""
    network = small_network(seed=5)
    before = serialize_weights(network)

    with pytest.raises(WeightsError, match=named) as raised:
        fill_network(network, read(save(changed(**changes))))

    assert reason == raised.value.reason
    assert before == serialize_weights(network)
