"""The network of the small scale: as cheap as a convolutional network with BatchNorm can be.

Legend: B batch, C channels, H height, W width, K classes.
"""

from torch import Tensor, nn


class StridedCnn(nn.Module):
    """Two strided convolutions with BatchNorm and a flat linear head, for 28x28 or 32x32 images."""

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, width: int = 16) -> None:
        """Lay out the network; `width` is the number of channels of the first convolution."""
        super().__init__()
        num_channels, height, image_width = input_shape
        self.features = nn.Sequential(
            nn.Conv2d(num_channels, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * width * -(-height // 4) * -(-image_width // 4), num_classes)

    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        """Return the logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(inputs_BCHW))
        return logits_BK
