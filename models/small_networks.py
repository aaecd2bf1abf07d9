"""Two small networks of our own: one for small images, one for feature vectors.

Legend: B batch, C channels, H height, W width, F features, K classes.
"""

import itertools
import math

from torch import Tensor, nn

_LARGE_SIDE = 48
"""From this side on the first convolution strides, which keeps a step affordable on a CPU."""


class SmallCnn(nn.Module):
    """Three convolutions with BatchNorm, for images of 8x8 up to about 64x64."""

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, width: int = 24) -> None:
        """Lay out the network; `width` is the number of channels of the first convolution."""
        super().__init__()
        num_channels, height, image_width = input_shape
        first_stride = 2 if min(height, image_width) >= _LARGE_SIDE else 1
        self.features = nn.Sequential(
            *_convolution(num_channels, width, stride=first_stride),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        """Return the logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(inputs_BCHW))
        return logits_BK


class Mlp(nn.Module):
    """Fully connected layers with LayerNorm, for feature vectors.

    LayerNorm and not BatchNorm, so that a last batch of one instance is no special case.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        width: int = 256,
        depth: int = 2,
    ) -> None:
        """Lay out `depth` hidden layers of `width` units; images are taken as flat vectors."""
        super().__init__()
        sizes = [math.prod(input_shape), *[width] * depth]
        layers: list[nn.Module] = [nn.Flatten()]
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.LayerNorm(size_out), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], num_classes)

    def forward(self, inputs_BF: Tensor) -> Tensor:
        """Return the logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(inputs_BF))
        return logits_BK


def _convolution(num_in: int, num_out: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(inplace=True),
    ]
