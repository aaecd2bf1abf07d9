"""The device: chosen by name, refused in words, and repeatable on the CPU."""

from collections.abc import Iterator

import pytest
import torch

from teacherd.daemon.device import find_device, prepare_device
from teacherd.daemon.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _torch_left_alone() -> Iterator[None]:
    """Give the process its own settings back."""
    threads = torch.get_num_threads()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(is_deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fills


def test_the_cpu_becomes_repeatable() -> None:
    """Equal computations give equal bits, with as many threads as were asked for."""
    torch.use_deterministic_algorithms(mode=False)

    assert torch.device("cpu") == prepare_device("cpu", 1)
    assert torch.are_deterministic_algorithms_enabled()
    assert 1 == torch.get_num_threads()


def test_no_number_of_threads_keeps_torchs_own() -> None:
    """0 changes nothing."""
    torch.set_num_threads(2)
    prepare_device("cpu", 0)

    assert 2 == torch.get_num_threads()


def test_auto_takes_what_there_is() -> None:
    """A CUDA device where there is one, the CPU elsewhere."""
    wanted = "cuda" if torch.cuda.is_available() else "cpu"

    assert wanted == find_device("auto").type


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "", "cpu:x"])
def test_what_is_no_device_here_is_refused(name: str) -> None:
    """The key, the value and the way out stand in one line."""
    with pytest.raises(ConfigurationError) as caught:
        prepare_device(name, 0)

    (problem,) = caught.value.problems
    assert "process.device" == problem.key
    assert problem.message.startswith(f"{name!r}: ")
    assert "take auto" in problem.message
    assert "\n" not in problem.message
