"""Evaluation sets: what fits the network is loaded, anything else is told with its name."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teacherd.daemon.errors import ConfigurationError
from teacherd.daemon.evaluation_sets import EvaluationConfig, EvaluationSet, load_evaluation_sets

IMAGES = np.zeros((3, 1, 2, 2), dtype=np.uint8)
FEATURES = np.zeros((3, 4), dtype=np.float32)
LABELS = np.array([0, 1, 2])


def save(path: Path, **arrays: Any) -> str:  # noqa: ANN401 (whatever numpy can save)
    """Write an .npz and return its path as a user types it."""
    np.savez(path, **arrays)
    return str(path)


def load(sets: dict[str, str], *, shape: tuple[int, ...] = (4,)) -> list[EvaluationSet]:
    """Load sets for a network of three classes."""
    return load_evaluation_sets(
        EvaluationConfig(sets=sets), input_shape=shape, classes=("a", "b", "c")
    )


def problem(sets: dict[str, str], *, shape: tuple[int, ...] = (4,)) -> str:
    """Return the one problem of the set `bad`."""
    with pytest.raises(ConfigurationError) as caught:
        load(sets, shape=shape)

    (found,) = caught.value.problems
    assert "evaluation.sets.bad" == found.key
    return found.message


@pytest.mark.parametrize(("inputs", "shape"), [(IMAGES, (1, 2, 2)), (FEATURES, (4,))])
def test_a_fitting_set_comes_with_its_name(
    tmp_path: Path, inputs: np.ndarray, shape: tuple[int, ...]
) -> None:
    """Inputs stay as they are, labels become int64 whatever integer they were."""
    path = save(tmp_path / "a.npz", inputs=inputs, labels=LABELS.astype(np.uint8))

    (loaded,) = load({"old": path}, shape=shape)

    assert "old" == loaded.name
    assert np.array_equal(inputs, loaded.inputs)
    assert np.int64 == loaded.labels.dtype
    assert np.array_equal(LABELS, loaded.labels)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"inputs": FEATURES}, "labels"),
        ({"inputs": FEATURES.astype(np.float64), "labels": LABELS}, "takes float32"),
        ({"inputs": FEATURES[:, :3], "labels": LABELS}, r"takes float32 \[N, 4\]"),
        ({"inputs": np.float32(1), "labels": LABELS}, "takes float32"),
        ({"inputs": FEATURES, "labels": LABELS[:2]}, "one for each input"),
        ({"inputs": FEATURES[:0], "labels": LABELS[:0]}, "at least one"),
        ({"inputs": FEATURES, "labels": LABELS + 1}, "from 0 to 2"),
        ({"inputs": FEATURES, "labels": LABELS - 1}, "from 0 to 2"),
        ({"inputs": FEATURES, "labels": LABELS.astype(np.float32)}, "integers"),
        ({"inputs": FEATURES + np.float32(np.nan), "labels": LABELS}, "NaN"),
        ({"inputs": FEATURES.astype(object), "labels": LABELS}, "pickle|Object"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(
    tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    """Shape, type, number, range and finiteness; never a silent 0 % accuracy."""
    assert re.search(reason, problem({"bad": save(tmp_path / "a.npz", **arrays)}))


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04" + bytes(50)])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever lies there, the error names it and nothing is unpickled."""
    path = tmp_path / "a.npz"
    path.write_bytes(content)

    assert "no .npz archive" in problem({"bad": str(path)})


def test_a_lone_array_is_refused(tmp_path: Path) -> None:
    """An .npy is no set, though numpy would load it."""
    np.save(tmp_path / "a.npy", FEATURES)

    assert "no .npz archive" in problem({"bad": str(tmp_path / "a.npy")})


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """Every damaged byte inside an array is found by the archive's checksum."""
    path = Path(save(tmp_path / "a.npz", inputs=FEATURES, labels=LABELS))
    data = bytearray(path.read_bytes())
    data[data.index(bytes(FEATURES.nbytes)) + 5] ^= 1
    path.write_bytes(data)

    assert "CRC" in problem({"bad": str(path)})


def test_every_bad_set_is_told_at_once(tmp_path: Path) -> None:
    """A person mends them all before the next attempt."""
    good = save(tmp_path / "a.npz", inputs=FEATURES, labels=LABELS)
    sets = {"gone": str(tmp_path / "gone.npz"), "good": good, "folder": str(tmp_path)}

    with pytest.raises(ConfigurationError) as caught:
        load(sets)

    assert ["evaluation.sets.gone", "evaluation.sets.folder"] == [
        found.key for found in caught.value.problems
    ]
    assert "No such file" in caught.value.problems[0].message


def test_a_batch_of_nothing_is_refused() -> None:
    """The rule and the fix stand in the message."""
    with pytest.raises(ValueError, match="batch_size: 0: must be at least 1"):
        EvaluationConfig(batch_size=0)


def test_names_say_which_class_a_label_is(tmp_path: Path) -> None:
    """In a file that names its classes labels are places in these, in whatever order."""
    path = save(
        tmp_path / "a.npz", inputs=FEATURES, labels=LABELS, classes=np.array(["c", "a", "b"])
    )

    (loaded,) = load({"named": path})

    assert ([2, 0, 1], ()) == (loaded.labels.tolist(), loaded.classes)


def test_classes_to_come_are_refused_unless_the_head_may_grow(tmp_path: Path) -> None:
    """Then they are kept by name: versions that do not know them get them wrong."""
    named = np.array(["a", "b", "d"])
    path = save(tmp_path / "a.npz", inputs=FEATURES, labels=LABELS, classes=named)
    assert re.search(r"names \['d'\].*classes.unknown: grow", problem({"bad": path}))

    (loaded,) = load_evaluation_sets(
        EvaluationConfig(sets={"all": path}),
        input_shape=(4,),
        classes=("a", "b", "c"),
        may_grow=True,
    )

    assert (("a", "b", "d"), [0, 1, 2]) == (loaded.classes, loaded.labels.tolist())
