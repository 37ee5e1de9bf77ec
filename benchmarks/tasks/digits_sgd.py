"""Handwritten digits, a perceptron, plain SGD."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 32
TARGET_LOSS = 0.1


def make_model():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def make_dataset():
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.as_tensor(images / 16, dtype=torch.float32), torch.as_tensor(labels))


def make_optimizer(model, lr=0.5):
    return torch.optim.SGD(model.parameters(), lr=lr)
