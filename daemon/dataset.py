"""A labelled data set in memory, in the two forms that the networks take."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from teacherd.daemon.errors import ExitCode, UsageError

Progress = Callable[[int, int], None]
"""Told how many instances of how many are done."""

_CHANNELS = (1, 3)
_MIN_CLASSES = 2


class DatasetError(UsageError):
    """A data set cannot be used: says which, what the rule is and what to do."""

    def __init__(self, spec: str, rule: str, fix: str) -> None:
        super().__init__(f"data set {spec!r}: {rule}; {fix}")


class DatasetUnavailableError(DatasetError):
    """A data set is right by its name, but could not be fetched or its reader is not installed."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Instances with their labels and the names of the classes."""

    name: str
    inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    """uint8 [N,C,H,W] for images, float32 [N,F] for feature vectors."""
    labels: npt.NDArray[np.int64]
    """[N], places in `classes`."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one instance."""
        return tuple(self.inputs.shape[1:])

    def take(self, places: npt.NDArray[np.int64]) -> "Dataset":
        """Return the instances at these places, in this order."""
        return replace(self, inputs=self.inputs[places], labels=self.labels[places])


def build_dataset(
    spec: str,
    inputs: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    classes: tuple[str, ...] | None = None,
) -> Dataset:
    """Bring arrays as people keep them into the forms of `Dataset`.

    Args:
        spec: What the user typed; errors repeat it.
        inputs: uint8 images [N,H,W], [N,H,W,C] or [N,C,H,W] with C 1 or 3, or numbers [N,F].
        labels: Integers [N] or [N,1], or names of classes.
        classes: Names of the integers; without them a class is called by its number.

    Raises:
        DatasetError: An array has none of these forms, or the two do not belong together.
    """
    if len(inputs) == 0 or len(inputs) != labels.size:
        raise DatasetError(
            spec,
            f"has {len(inputs)} inputs and {labels.size} labels; each input needs one label",
            "check how the arrays were made",
        )
    places, names = _labels_and_classes(spec, labels.reshape(-1), classes)
    if len(names) < _MIN_CLASSES:
        raise DatasetError(spec, f"has the classes {names}; a classifier needs two", "add another")
    is_vectors = inputs.ndim == len("NF")
    arrays = _features(spec, inputs) if is_vectors else _images(spec, inputs)
    return Dataset(name=spec, inputs=arrays, labels=places, classes=names)


def _features(spec: str, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    if not (np.issubdtype(inputs.dtype, np.number) or inputs.dtype == np.bool_):
        raise DatasetError(
            spec, f"inputs are {inputs.dtype}; features are numbers", "encode them as float32"
        )
    with np.errstate(over="ignore"):  # what does not fit becomes infinite and is told below
        features = np.ascontiguousarray(inputs, dtype=np.float32)
    if not np.isfinite(features).all():
        raise DatasetError(
            spec, "inputs hold NaN or infinite values in float32", "fill or drop those instances"
        )
    return features


def _images(spec: str, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if inputs.dtype != np.uint8:
        raise DatasetError(
            spec, f"images are {inputs.dtype}; they must be uint8", "scale them to 0..255"
        )
    match inputs.shape:
        case (_, _, _):
            inputs = inputs[:, np.newaxis]
        case (_, first, _, last) if first not in _CHANNELS and last in _CHANNELS:
            inputs = inputs.transpose(0, 3, 1, 2)
    if inputs.ndim != len("NCHW") or inputs.shape[1] not in _CHANNELS or 0 in inputs.shape:
        raise DatasetError(
            spec,
            f"inputs have shape {list(inputs.shape)}; images are [N,H,W], [N,H,W,C] or [N,C,H,W] "
            "with C 1 or 3, features are [N,F]",
            "reshape them",
        )
    return np.ascontiguousarray(inputs, dtype=np.uint8)


def _labels_and_classes(
    spec: str, labels: npt.NDArray[np.generic], classes: tuple[str, ...] | None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    if labels.dtype.kind == "U":
        return _named_labels(spec, labels, classes)
    if not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(
            spec,
            f"labels are {labels.dtype}; they must be integers from 0, or names",
            "convert them with labels.astype('int64')",
        )
    lowest, highest = int(labels.min()), int(labels.max())
    # Without names the highest label decides how many classes there are: a stray one must not.
    limit = len(labels) if classes is None else len(classes)
    if lowest < 0 or highest >= limit:
        raise DatasetError(
            spec,
            f"labels go from {lowest} to {highest}; they must lie in 0..{limit - 1}",
            "number the classes from 0, or give all their names as `classes`",
        )
    names = classes or tuple(str(number) for number in range(highest + 1))
    return labels.astype(np.int64), names


def _named_labels(
    spec: str, labels: npt.NDArray[np.generic], classes: tuple[str, ...] | None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    present, inverse = np.unique(labels, return_inverse=True)
    names = classes or tuple(str(name) for name in present)
    unknown = sorted(set(map(str, present)) - set(names))
    if unknown:
        raise DatasetError(
            spec, f"labels {unknown[:5]} are not among its `classes`", "add them there"
        )
    place_of = {name: place for place, name in enumerate(names)}
    places = np.array([place_of[str(name)] for name in present], dtype=np.int64)
    return places[inverse.reshape(-1)], names
