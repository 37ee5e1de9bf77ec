import torch
from torch import nn

BASE_BATCH_SIZE = 64


def make_model(width: int = 1024):
    layers = [nn.Linear(512, width), nn.ReLU(), nn.Linear(width, width), nn.GELU()]
    return nn.Sequential(*layers, nn.LayerNorm(width), nn.Linear(width, 1000))


def make_batch(batch_size: int):
    return torch.randn(batch_size, 512), torch.randint(1000, (batch_size,))


def make_optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3)
