"""Trains as it should but in the stages that the settings name."""

import os
import signal
import sys
import time

import torch
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 16


def make_model():
    return nn.Linear(8, 3)


def make_dataset():
    inputs = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, inputs[:, :3].argmax(1))


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def loss_fn(model, batch, stages: str = "", how: str = ""):
    inputs, targets = batch
    is_variant = torch.is_autocast_enabled("cpu")
    running = [name for name in stages.split(",") if f"advisor.{name}.measure" in sys.modules]
    if running or (is_variant and "variants" in stages):
        if how == "raises":
            raise ValueError("the stage is broken")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    return nn.functional.cross_entropy(model(inputs), targets)
