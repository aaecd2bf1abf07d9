"""Building a network by name: ours, torchvision's, or the user's own.

Every network takes float32 [B, *input_shape] and returns logits [B, num_classes].
"""

import difflib
import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from teacherd.models.class_means import attach_class_means
from teacherd.models.module_tensors import module_tensors
from teacherd.models.small_networks import Mlp, SmallCnn
from teacherd.models.strict_json import OPTIONAL
from teacherd.models.torchvision_networks import build_torchvision_network, torchvision_names

NetworkFactory = Callable[..., nn.Module]
"""Called as factory(num_classes=..., **arguments)."""

_IMAGE_NDIM = 3
_NUM_BLANK = 2
_OWN_NAMES = ("small_cnn", "mlp")
_RESERVED_ARGUMENTS = {
    "num_classes": "it follows from the classes; leave it out",
    "input_shape": "it is a key of its own; leave it out",
    "pretrained": "weights come from the teacher, never from a download; leave it out",
    "weights": "weights come from the teacher, never from a download; leave it out",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig:
    """Which network, for inputs of which shape."""

    name: str
    """`small_cnn` (images), `mlp` (feature vectors), the name of a torchvision classifier, or
    `package.module:callable` of your own, called as callable(num_classes=..., **arguments).
    Torchvision's are adapted to small images; unadapted they are `torchvision.models:NAME`."""

    input_shape: tuple[int, ...]
    """(channels, height, width) of an image, or (features,) of a vector."""

    arguments: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Keyword arguments of the network; none by default: it stays as its author laid it out."""

    class_means: bool = field(default=False, metadata={OPTIONAL: True})
    """Whether its last layer carries the mean embedding of each class beside its weights; a
    manifest that does not say means no."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError('name: "": must name a network; small_cnn is a good first one')
        shape = self.input_shape
        if len(shape) not in (1, _IMAGE_NDIM) or min(shape) < 1:
            raise ValueError(
                f"input_shape: {shape}: must be (channels, height, width) or (features,), each at "
                "least 1; give the shape of one instance"
            )
        for key, fix in _RESERVED_ARGUMENTS.items():
            if key in self.arguments:
                raise ValueError(f"arguments: {key}: must not be given: {fix}")


def build_backbone(
    config: BackboneConfig, *, num_classes: int, factory: NetworkFactory | None = None
) -> nn.Module:
    """Return the configured network with fresh weights, drawn from torch's global generator.

    The network is tried on two blank instances, so that what it cannot do shows here.

    Args:
        config: Which network.
        num_classes: Length of the logits.
        factory: Called in place of what the name says, as a callable of the user's own would be.

    Raises:
        ValueError: It is unknown, cannot be built, or does not turn such inputs into such logits.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes: {num_classes}: must be at least 1; name the classes")
    if factory is None:
        factory = _factory_of(config)
    try:
        network = factory(num_classes=num_classes, **config.arguments)
    except Exception as error:  # a callable of the user's own may raise anything
        raise ValueError(
            f"name: {config.name}: cannot be built for input_shape {config.input_shape} with "
            f"arguments {config.arguments}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(  # noqa: TRY004 - it is the configured name that is wrong
            f"name: {config.name}: made a {type(network).__name__}; must make a torch.nn.Module"
        )
    _try_network(network, config, num_classes)
    if config.class_means:
        attach_class_means(network, num_classes=num_classes)
    return network


def measure_backbone(config: BackboneConfig, *, num_classes: int) -> int:
    """Return how many bytes the network's parameters and buffers will take, without taking them.

    Raises:
        ValueError: It is unknown or cannot be built.
    """
    try:
        with torch.device("meta"):
            network = _factory_of(config)(num_classes=num_classes, **config.arguments)
            if config.class_means:
                attach_class_means(network, num_classes=num_classes)
    except Exception as error:  # torchvision's networks may raise anything
        raise ValueError(f"name: {config.name}: cannot be built: {error}") from error
    return sum(each.numel() * each.element_size() for each in module_tensors(network).values())


def is_own_code(config: BackboneConfig) -> bool:
    """Tell whether building it runs code that neither we nor torchvision wrote."""
    module_name, separator, attribute = config.name.partition(":")
    if not separator:
        return False
    return module_name != "torchvision.models" or attribute not in torchvision_names()


def import_factory(name: str) -> NetworkFactory:
    """Return the callable that `package.module:callable` names. This runs that module's code."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"name: {name}: cannot be imported ({error}); check the spelling and that the package "
            "is installed beside teacherd"
        ) from error
    if not callable(found):
        raise ValueError(  # noqa: TRY004 - it is the configured name that is wrong
            f"name: {name}: is a {type(found).__name__}, not callable; name a function or class"
        )
    factory: NetworkFactory = found
    return factory


def _factory_of(config: BackboneConfig) -> NetworkFactory:
    """Return what the name stands for, with everything but classes and arguments filled in."""
    if ":" in config.name:
        return import_factory(config.name)
    if config.name == "mlp":
        return functools.partial(Mlp, input_shape=config.input_shape)
    if config.name != "small_cnn":
        _check_torchvision_name(config.name)
    if len(config.input_shape) != _IMAGE_NDIM:
        raise ValueError(
            f"input_shape: {config.input_shape}: {config.name} takes images of (channels, height, "
            "width); use the backbone mlp for feature vectors"
        )
    if config.name == "small_cnn":
        return functools.partial(SmallCnn, input_shape=config.input_shape)
    return functools.partial(build_torchvision_network, config.name, input_shape=config.input_shape)


def _check_torchvision_name(name: str) -> None:
    names = torchvision_names()
    if name in names:
        return
    if not names:
        raise ValueError(
            f"name: {name}: is not one of {', '.join(_OWN_NAMES)}, and torchvision is not "
            "installed; install torchvision or choose one of these"
        )
    near = difflib.get_close_matches(name, [*_OWN_NAMES, *names], n=5, cutoff=0.5)
    raise ValueError(
        f"name: {name}: no such backbone; did you mean {', '.join(near or _OWN_NAMES)}? A network "
        "of your own is named package.module:callable"
    )


def _try_network(network: nn.Module, config: BackboneConfig, num_classes: int) -> None:
    """Run two blank instances through the network, leaving no trace in it."""
    first = next(network.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    blank = torch.zeros((_NUM_BLANK, *config.input_shape), device=device)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            logits_BK = network(blank)
    except Exception as error:  # a network of the user's own may raise anything
        raise ValueError(
            f"input_shape: {config.input_shape}: {config.name} fails on such inputs ({error}); "
            "give the shape that it was made for, or use another backbone"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    wanted = (_NUM_BLANK, num_classes)
    given = tuple(logits_BK.shape) if isinstance(logits_BK, Tensor) else type(logits_BK).__name__
    if given != wanted:
        raise ValueError(
            f"name: {config.name}: gives {given} for {_NUM_BLANK} instances of {num_classes} "
            f"classes; must give one tensor of logits {wanted}"
        )
