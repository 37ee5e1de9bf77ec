"""Handwritten digits as images of 8×8 pixels, a small convnet, AdamW."""

import torch
from digits_convnet import BASE_BATCH_SIZE, make_dataset, make_model  # noqa: F401


def make_optimizer(model, lr=3e-3):
    return torch.optim.AdamW(model.parameters(), lr=lr)
