"""ResNet-32 for 32x32 images: He et al., arXiv 1512.03385, section 4.2.

Three stages of five blocks of two convolutions, 16, 32 and 64 channels, shortcuts without
parameters (A): 0.46 million weights for ten classes. Torchvision has none of this form.

Legend: B batch, C channels, H height, W width, K classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = (16, 32, 64)
_BLOCKS_PER_STAGE = 5


class Block(nn.Module):
    """Two convolutions beside a shortcut, which leaves out pixels and pads channels."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.stride = 1 if num_in == num_out else 2
        self.first = nn.Conv2d(num_in, num_out, 3, stride=self.stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(num_out)
        self.second = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(num_out)
        self.num_added = num_out - num_in

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Return maps of half the side where channels double."""
        changed = F.relu(self.first_norm(self.first(maps_BCHW)))
        changed = self.second_norm(self.second(changed))
        shortcut = maps_BCHW[:, :, :: self.stride, :: self.stride]
        half = self.num_added // 2
        shortcut = F.pad(shortcut, (0, 0, 0, 0, half, self.num_added - half))
        return F.relu(changed + shortcut)


class ResNet32(nn.Module):
    """The network that class-incremental work on CIFAR-100 uses."""

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        sizes = [num for num in _STAGES for _ in range(_BLOCKS_PER_STAGE)]
        self.stem = nn.Sequential(
            nn.Conv2d(input_shape[0], _STAGES[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(_STAGES[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            *[Block(a, b) for a, b in zip([_STAGES[0], *sizes[:-1]], sizes, strict=True)]
        )
        self.head = nn.Linear(_STAGES[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        """Return the logits [B, K]."""
        maps = self.blocks(self.stem(inputs_BCHW))
        logits_BK: Tensor = self.head(maps.mean((2, 3)))
        return logits_BK
