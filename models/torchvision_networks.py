"""Torchvision's classifiers, adapted to small images and to any number of channels.

Torchvision's networks are laid out for three channels and about 224x224 pixels, where they halve
the image five times. On a small image the first one or two of these halvings are undone, so that
the last feature map keeps a side of about four; a large stem kernel becomes 3x3, a max-pooling
that no longer strides goes. For a ResNet this is the well-known CIFAR stem.

Every classifier of torchvision 0.21 to 0.29 can be adapted, within these bounds:
- vit_*: square images; the patch becomes the largest that leaves at least 7x7 of them.
- maxvit_t: sides of 2 to 7 times 16 pixels, from 128 on 4 to 7 times 32, for its attention windows.
- inception_v3: from 21x21 pixels; alexnet from 15x15; all others from 8x8.
- googlenet and inception_v3: without their auxiliary heads.
- vgg*: is left as it is from 32x32 pixels on; its own classifier makes it heavy there.
A network that is wanted exactly as torchvision builds it is `torchvision.models:NAME`.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_NATURAL_SIDE = 224
_NUM_HALVINGS = 5
_MOST_UNDONE = 2
_SMALLEST_MAP = 4
_LARGEST_KEPT_KERNEL = 5
_NUM_COLOURS = 3
_FEWEST_PATCHES = 7
_LARGEST_WINDOW = 7


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification models; none where it is not installed."""
    try:
        # Heavy, and optional in an inference process: only a torchvision network needs it.
        from torchvision import models  # noqa: PLC0415 - see the line above
    except ImportError:
        return []
    names: list[str] = models.list_models(module=models)
    return names


def build_torchvision_network(
    name: str, *, input_shape: tuple[int, ...], num_classes: int, **arguments: bool | float | str
) -> nn.Module:
    """Return the named network, adapted to the input shape, with fresh weights.

    Raises:
        ValueError: The network cannot take images of this shape.
    """
    if name.startswith("vit_"):
        network = _build_vit(name, input_shape, num_classes, arguments)
    elif name == "maxvit_t":
        network = _build_maxvit(input_shape, num_classes, arguments)
    else:
        network = _build_plain(name, num_classes, arguments)
        num_undone = _halvings_to_undo(name, min(input_shape[1:]))
        if num_undone:
            _undo_halvings(network, num_undone)
    if input_shape[0] != _NUM_COLOURS:
        _adapt_channels(network, input_shape[0])
    return network


def _halvings_to_undo(name: str, side: int) -> int:
    smallest_map = 1 if name.startswith("vgg") else _SMALLEST_MAP
    for num_undone in range(_MOST_UNDONE):
        if side >= smallest_map * 2 ** (_NUM_HALVINGS - num_undone):
            return num_undone
    return _MOST_UNDONE


def _build_plain(name: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    from torchvision import models  # noqa: PLC0415 - heavy and optional, see torchvision_names

    if name in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": False, "init_weights": False, **arguments}
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    return network


def _build_vit(
    name: str, input_shape: tuple[int, ...], num_classes: int, arguments: Mapping[str, Any]
) -> nn.Module:
    """Build a transformer of the named one's size over smaller patches."""
    from torchvision import models  # noqa: PLC0415 - heavy and optional, see torchvision_names

    _, height, width = input_shape
    if height != width:
        raise ValueError("it takes square images only; use equal sides or another backbone")
    with torch.device("meta"):
        original = models.get_model(name, weights=None)
    fitting = [
        size
        for size in range(1, original.patch_size + 1)
        if height % size == 0 and height // size >= _FEWEST_PATCHES
    ]
    network: nn.Module = models.VisionTransformer(
        image_size=height,
        patch_size=max(fitting, default=1),
        num_layers=len(original.encoder.layers),
        num_heads=original.encoder.layers[0].num_heads,
        hidden_dim=original.hidden_dim,
        mlp_dim=original.mlp_dim,
        num_classes=num_classes,
        **arguments,
    )
    return network


def _build_maxvit(
    input_shape: tuple[int, ...], num_classes: int, arguments: Mapping[str, Any]
) -> nn.Module:
    """Build torchvision's maxvit_t with attention windows that tile every feature map."""
    from torchvision import models  # noqa: PLC0415 - heavy and optional, see torchvision_names

    # Only the stem's halving can be undone; then every map is that of an image twice as large.
    enlarged = min(_halvings_to_undo("maxvit_t", min(input_shape[1:])), 1) + 1
    height, width = (side * enlarged for side in input_shape[1:])
    smallest, rest = divmod(math.gcd(height, width), 2**_NUM_HALVINGS)
    windows = [size for size in range(2, _LARGEST_WINDOW + 1) if not rest and smallest % size == 0]
    if not windows:
        raise ValueError(
            "it cannot tile its feature maps with attention windows of 2 to 7; use sides of 2 to "
            f"7 times {2**_NUM_HALVINGS // enlarged}, or another backbone"
        )
    network: nn.Module = models.MaxVit(
        input_size=(height, width),
        stem_channels=64,
        partition_size=max(windows),
        block_channels=[64, 128, 256, 512],
        block_layers=[2, 2, 5, 2],
        head_dim=32,
        **{"stochastic_depth_prob": 0.2, "num_classes": num_classes, **arguments},
    )
    if enlarged > 1:
        _change_stride(network, "stem.0.0", 1)
    return network


def _undo_halvings(network: nn.Module, num_undone: int) -> None:
    """Take the stride out of the first halvings of a freshly built network."""
    for names in _strided_layers(network):
        stride = max(_stride(network.get_submodule(name)) for name in names)
        undone = min(num_undone, int(math.log2(stride)))
        for name in names:
            _change_stride(network, name, stride >> undone)
        num_undone -= undone
        if not num_undone:
            break


def _strided_layers(network: nn.Module) -> list[list[str]]:
    """Return the names of the layers that halve, grouped by the map they halve, largest first.

    A group is one halving: a block's main path and its shortcut stride together.
    """
    groups: defaultdict[int, list[str]] = defaultdict(list)
    handles = []
    for name, layer in network.named_modules():
        if _stride(layer) > 1:

            def note(_: nn.Module, args: tuple[Tensor], name: str = name) -> None:
                groups[args[0].shape[-1]].append(name)

            handles.append(layer.register_forward_pre_hook(note))
    # Shapes are all that is asked for, so nothing is computed.
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    image = torch.empty(1, _NUM_COLOURS, _NATURAL_SIDE, _NATURAL_SIDE, device="meta")
    network.eval()
    with torch.no_grad():
        torch.func.functional_call(network, on_meta, (image,))
    network.train()
    for handle in handles:
        handle.remove()
    return [groups[side] for side in sorted(groups, reverse=True)]


def _stride(layer: nn.Module) -> int:
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        return 1
    stride = layer.stride
    return stride if isinstance(stride, int) else max(stride)


def _change_stride(network: nn.Module, name: str, stride: int) -> None:
    """Give the named layer a smaller stride; what made sense only with the larger one changes."""
    layer = network.get_submodule(name)
    if isinstance(layer, nn.MaxPool2d):
        network.set_submodule(name, nn.Identity())
    elif isinstance(layer, nn.Conv2d):
        kernel = layer.kernel_size[0]
        if kernel > _LARGEST_KEPT_KERNEL or kernel == _stride(layer):
            changed = _convolution_like(layer, kernel_size=3, stride=stride, padding=1)
            network.set_submodule(name, changed)
        else:
            layer.stride = (stride, stride)


def _adapt_channels(network: nn.Module, num_channels: int) -> None:
    """Let the first convolution, the one that sees the image, take another number of channels."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            network.set_submodule(name, _convolution_like(layer, in_channels=num_channels))
            return


def _convolution_like(layer: nn.Conv2d, **changes: int) -> nn.Conv2d:
    """Return a freshly drawn convolution that differs from the given one in what is named."""
    settings: dict[str, Any] = {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "bias": layer.bias is not None,
    }
    changed = nn.Conv2d(**{**settings, **changes})
    # He initialisation, as torchvision's own convolutions before BatchNorm.
    nn.init.kaiming_normal_(changed.weight, mode="fan_out", nonlinearity="relu")
    if changed.bias is not None:
        nn.init.zeros_(changed.bias)
    return changed
