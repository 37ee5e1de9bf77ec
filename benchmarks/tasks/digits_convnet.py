"""Handwritten digits as images of 8×8 pixels, a small convnet, SGD with momentum."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 32
TARGET_LOSS = 0.1


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def make_dataset():
    images, labels = load_digits(return_X_y=True)
    inputs = torch.as_tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return TensorDataset(inputs, torch.as_tensor(labels))


def make_optimizer(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
