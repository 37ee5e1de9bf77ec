"""Handwritten digits, a perceptron of two hidden layers, AdamW."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 32
TARGET_LOSS = 0.05


def make_model():
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def make_dataset():
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.as_tensor(images / 16, dtype=torch.float32), torch.as_tensor(labels))


def make_optimizer(model, lr=3e-3):
    return torch.optim.AdamW(model.parameters(), lr=lr)
