import torch
from torch import nn

BASE_BATCH_SIZE = 16


class FirstStepTakesMore(nn.Module):
    """As a library that tries its algorithms where it sees a shape for the first time."""

    def __init__(self, first_mib):
        super().__init__()
        self.left = first_mib << 20

    def forward(self, x):
        torch.empty(self.left, dtype=torch.uint8, device=x.device)
        self.left = 0
        return x


def make_model(first_mib: int = 0):
    layers = [nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), FirstStepTakesMore(first_mib)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*layers, nn.Conv2d(32, 32, 3), nn.ReLU(), *head)


def make_batch(batch_size: int):
    return torch.randn(batch_size, 3, 64, 64), torch.randint(10, (batch_size,))


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
