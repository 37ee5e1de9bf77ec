"""A small residual network with BatchNorm on synthetic images.

Shows `make_batch`: without data at hand, memory and throughput can be measured, gradient noise
cannot, and the output says so.

    bsadvisor probe examples/convnet.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

BASE_BATCH_SIZE = 128


class Block(nn.Module):
    """Two convolutions and the shortcut around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, at 1/stride of the resolution."""
        return functional.relu(self.path(images) + self.shortcut(images))


def make_model(width: int = 16) -> nn.Module:
    """Return the network; `--set width=64` widens it."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def make_batch(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return random images of 3×32×32 and random labels."""
    return torch.randn(batch_size, 3, 32, 32), torch.randint(10, (batch_size,))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD with momentum."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
