"""Adopting a user's own trained network as the base model, checked before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from teacherd.daemon.base_model import parse_arguments, require_place, write_base
from teacherd.daemon.dataset import Dataset, DatasetError
from teacherd.daemon.datasets import load_dataset
from teacherd.daemon.errors import UsageError
from teacherd.daemon.plain_twin import PlainTwin, build_plain_twin
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.class_means import attach_class_means
from teacherd.models.design import Design
from teacherd.models.evaluation import evaluate
from teacherd.models.mean_taking import take_class_means
from teacherd.models.preprocessing import Preprocessing

_IMAGE_DIMENSIONS = 3
_FLAGS = {"name": "--network", "input_shape": "--input-shape", "arguments": "--argument"}
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Adoption:
    """What `teacherd adopt` is told; texts as typed."""

    weights: Path
    network: str
    arguments: tuple[str, ...]
    input_shape: str
    classes: str
    mean: str
    std: str
    scale: float | None
    samples: str | None
    min_accuracy: float
    class_means: bool = False
    out: Path


def adopt_network(adoption: Adoption) -> dict[str, Any]:
    """Build the network, load the weights strictly, try them, write the base model.

    Returns:
        What was found, for people.

    Raises:
        UsageError: Anything does not fit; nothing is written.
    """
    require_place(adoption.out)
    classes = _classes(adoption.classes)
    architecture = _architecture(adoption)
    preprocessing = _preprocessing(adoption, architecture.input_shape)
    try:
        network = build_backbone(architecture, num_classes=len(classes))
    except ValueError as error:
        raise UsageError(_by_flag(error)) from error
    plain = build_plain_twin(architecture, num_classes=len(classes))
    _load_weights(network, adoption.weights, plain)
    network.eval()
    _probe(network, architecture, preprocessing, len(classes))
    samples = _load_samples(adoption, architecture)
    accuracy = _check_samples(network, adoption, samples, preprocessing, classes)
    if adoption.class_means:
        architecture = _attach_means(network, architecture, samples, preprocessing, classes)
    metrics = {} if accuracy is None else {"accuracy.samples": accuracy}
    manifest = write_base(
        adoption.out,
        network,
        Design(architecture=architecture, classes=classes, preprocessing=preprocessing),
        metrics=metrics,
    )
    return {
        "network": adoption.network,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "classes": len(classes),
        "sha256": manifest.weights_sha256,
        "accuracy_on_samples": accuracy,
        "note": None if plain is None else plain.compare(network),
        "next": f"set model.base: {adoption.out} and start `teacherd run`",
    }


def _architecture(adoption: Adoption) -> BackboneConfig:
    try:
        return BackboneConfig(
            name=adoption.network,
            input_shape=_numbers("--input-shape", adoption.input_shape, int),
            arguments=parse_arguments(adoption.arguments),
        )
    except ValueError as error:
        raise UsageError(_by_flag(error)) from error


def _by_flag(error: ValueError) -> str:
    """Return a complaint of the network's configuration with its flag in place of the key."""
    key, separator, rest = str(error).partition(": ")
    return f"{_FLAGS[key]}: {rest}" if separator and key in _FLAGS else f"--network: {error}"


def _load_weights(network: nn.Module, path: Path, plain: PlainTwin | None) -> None:
    wanted = network.state_dict()
    state = _unwrapped(_read_state_dict(path), wanted)
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    wrong = [
        f"{name} is {list(state[name].shape)}, wanted {list(wanted[name].shape)}"
        for name in sorted(set(state) & set(wanted))
        if state[name].shape != wanted[name].shape
    ]
    if missing or unexpected or wrong:
        found = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong}
        told = "; ".join(f"{kind} {_some(names)}" for kind, names in found.items() if names)
        if plain is not None and plain.takes(state):
            raise UsageError(
                f"{path}: does not fit {plain.adapted_name} as it is adapted to small images: "
                f"{told}; it fits torchvision's own: --network {plain.name}"
            )
        raise UsageError(
            f"{path}: does not fit the network: {told}; check --network, --argument, "
            "--input-shape and the number of --classes"
        )
    bad = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise UsageError(f"{path}: not finite: {_some(bad)}")
    network.load_state_dict(state)


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # weights_only: a checkpoint is data, and nothing in it is executed.
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: cannot be read as weights: {error}") from error
    except Exception as error:  # torch's own words advise to load it unsafely
        raise UsageError(
            f"{path}: holds more than tensors (a whole network, or something else); nothing of it "
            "is executed here: save network.state_dict() alone"
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in loaded.values()
    ):
        raise UsageError(f"{path}: is no state dict; save network.state_dict()")
    return dict(loaded)


def _unwrapped(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off what DistributedDataParallel and torch.compile put before the network's names."""
    prefix = next((each for each in _WRAPPERS if all(name.startswith(each) for name in state)), "")
    if not prefix or not state or state.keys() & wanted.keys():
        return state
    return _unwrapped({name.removeprefix(prefix): each for name, each in state.items()}, wanted)


def _probe(
    network: nn.Module, architecture: BackboneConfig, preprocessing: Preprocessing, classes: int
) -> None:
    zeros = torch.zeros(2, *architecture.input_shape)
    with torch.inference_mode():
        logits_BC = network(preprocessing.apply(zeros))
    if tuple(logits_BC.shape) != (2, classes) or not bool(torch.isfinite(logits_BC).all()):
        raise UsageError(
            f"--network: gives {list(logits_BC.shape)} for a batch of 2, finite logits [2, "
            f"{classes}] are wanted; check --input-shape and --classes"
        )


def _load_samples(adoption: Adoption, architecture: BackboneConfig) -> Dataset | None:
    """Return the labelled data, None where none is named."""
    if adoption.samples is None:
        if adoption.min_accuracy > 0:
            raise UsageError("--min-accuracy: there is nothing to measure on; add --samples")
        if adoption.class_means:
            raise UsageError(
                "--class-means: there is nothing to take means of; add --samples, best with the "
                "data that the network was trained on"
            )
        return None
    try:
        samples = load_dataset(adoption.samples, size=_image_size(architecture))
    except DatasetError as error:
        raise UsageError(f"--samples: {error}") from error
    if samples.inputs.shape[1:] != architecture.input_shape:
        raise UsageError(
            f"--samples: inputs are {list(samples.inputs.shape[1:])}, --input-shape says "
            f"{list(architecture.input_shape)}"
        )
    return samples


def _attach_means(
    network: nn.Module,
    architecture: BackboneConfig,
    samples: Dataset | None,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
) -> BackboneConfig:
    """Let a network carry the means of its classes; return what it is built from then."""
    assert samples is not None, "without samples it was refused"
    try:
        attach_class_means(network, num_classes=len(classes))
        take_class_means(
            network,
            samples.inputs,
            _labels_in(samples, classes),
            preprocessing=preprocessing,
            device=torch.device("cpu"),
        )
    except ValueError as error:
        raise UsageError(f"--{str(error).replace('_', '-', 1)}") from error
    return replace(architecture, class_means=True)


def _check_samples(
    network: nn.Module,
    adoption: Adoption,
    samples: Dataset | None,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
) -> float | None:
    if samples is None:
        return None
    accuracy = evaluate(
        network,
        samples.inputs,
        _labels_in(samples, classes),
        preprocessing=preprocessing,
        device=torch.device("cpu"),
    ).accuracy
    if accuracy < adoption.min_accuracy:
        raise UsageError(
            f"accuracy on the samples is {accuracy:.3f}, below --min-accuracy "
            f"{adoption.min_accuracy}: check --mean, --std, --scale and the order of --classes"
        )
    return accuracy


def _image_size(architecture: BackboneConfig) -> tuple[int, int] | None:
    match architecture.input_shape:
        case (_, height, width):
            return height, width
    return None


def _labels_in(samples: Dataset, classes: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number the samples' labels as the network's outputs are numbered."""
    unknown = sorted(set(samples.classes) - set(classes))
    if unknown:
        raise UsageError(f"--samples: classes {_some(unknown)} are not among --classes")
    places = np.array([classes.index(name) for name in samples.classes], dtype=np.int64)
    labels: np.ndarray[Any, np.dtype[np.int64]] = places[samples.labels]
    return labels


def _preprocessing(adoption: Adoption, input_shape: tuple[int, ...]) -> Preprocessing:
    default = 1 / 255 if len(input_shape) == _IMAGE_DIMENSIONS else 1.0
    mean = _numbers("--mean", adoption.mean, float)
    std = _numbers("--std", adoption.std, float)
    if {len(mean), len(std)} != {input_shape[0]}:
        raise UsageError(
            f"--mean has {len(mean)} and --std {len(std)} numbers; "
            f"{input_shape[0]} are wanted, one for each channel or feature"
        )
    try:
        return Preprocessing(
            mean=mean, std=std, scale=default if adoption.scale is None else adoption.scale
        )
    except ValueError as error:
        raise UsageError(f"--mean, --std, --scale: {error}") from error


def _classes(text: str) -> tuple[str, ...]:
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"--classes: {text[1:]}: {error.strerror}") from error
    else:
        lines = text.split(",")
    classes = tuple(line.strip() for line in lines if line.strip())
    if len(classes) < 2 or len(set(classes)) != len(classes):  # noqa: PLR2004 (one class is none)
        raise UsageError(f"--classes: {len(classes)} names; two or more different ones are wanted")
    return classes


def _numbers(flag: str, text: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag}: {text!r} is not {kind.__name__}s with commas between") from error


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown  # noqa: PLR2004
