"""Breast cancer measurements of scikit-learn, a perceptron, SGD with momentum."""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 16
TARGET_LOSS = 0.05


def make_model():
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))


def make_dataset():
    features, labels = load_breast_cancer(return_X_y=True)
    inputs = torch.as_tensor(features, dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return TensorDataset(inputs, torch.as_tensor(labels))


def make_optimizer(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
