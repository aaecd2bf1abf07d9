"""Checkpoints: the newest that can be verified is found, whatever became of the others."""

from pathlib import Path

import pytest
import torch

from teacherd.daemon.checkpoint import Checkpoint, CheckpointStore
from teacherd.daemon.errors import StateError
from teacherd.daemon.lineage_log import Pin


def checkpoint(num_entries: int, *, step: int = 0) -> Checkpoint:
    """Return a checkpoint pinned to a length of the log."""
    return Checkpoint(
        lineage="a1", pin=Pin(num_entries, f"c{num_entries}"), head=3, task=4, step=step
    )


def ignore(_error: StateError) -> None:
    """Take no notice of unreadable checkpoints."""


def test_the_learner_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Every tensor keeps type, shape and bits."""
    state = {
        "weight": torch.randn(3, 4),
        "count": torch.tensor(7, dtype=torch.int64),
        "half": torch.randn(5).to(torch.bfloat16),
    }
    store = CheckpointStore(tmp_path, keep=3)
    store.save(checkpoint(5, step=12), state)

    stored = store.load_newest(ignore)

    assert stored is not None
    assert stored.learner_state is not None
    assert (5, 12) == (stored.checkpoint.pin.num_entries, stored.checkpoint.step)
    assert set(state) == set(stored.learner_state)
    for name, tensor in state.items():
        assert tensor.dtype == stored.learner_state[name].dtype
        assert torch.equal(tensor, stored.learner_state[name])


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """Disk use is bounded by `keep`."""
    store = CheckpointStore(tmp_path, keep=2)
    for number in range(5):
        store.save(checkpoint(number))

    assert ["00000004", "00000005"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("file", ["checkpoint.json", "learner.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    """Nothing unverified is returned, and the caller is told which was passed over."""
    store = CheckpointStore(tmp_path, keep=3)
    state = {"weight": torch.randn(50)}
    store.save(checkpoint(1), state)
    store.save(checkpoint(2), state)
    path = tmp_path / "00000002" / file
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] = 0
        path.write_bytes(data)
    passed_over: list[StateError] = []

    stored = store.load_newest(passed_over.append)

    assert stored is not None
    assert 1 == stored.checkpoint.pin.num_entries
    assert [True] == ["00000002" in str(error) for error in passed_over]


def test_no_readable_one_among_several_is_an_error(tmp_path: Path) -> None:
    """Starting from nothing would be a silent loss."""
    store = CheckpointStore(tmp_path, keep=3)
    store.save(checkpoint(1))
    (tmp_path / "00000001" / "checkpoint.json").write_bytes(b"{}")

    with pytest.raises(StateError, match="00000001"):
        store.load_newest(ignore)


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    """A new state directory starts without a checkpoint, and that is no error."""
    assert CheckpointStore(tmp_path / "new", keep=3).load_newest(ignore) is None


def test_what_an_interrupted_write_left_is_removed(tmp_path: Path) -> None:
    """A temporary folder is never mistaken for a checkpoint."""
    (tmp_path / ".tmp-00000001-99").mkdir()
    CheckpointStore(tmp_path, keep=3)

    assert [] == list(tmp_path.iterdir())
