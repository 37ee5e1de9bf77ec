"""A model that keeps only its last output in training, but a stack of them in evaluation."""

import torch
from torch import nn

VIEWS = 64


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 8)

    def forward(self, inputs):
        if self.training:
            return self.head(inputs)
        views = torch.stack([inputs + view for view in range(VIEWS)])  # test-time augmentation
        return self.head(views).mean(0)


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, 256), torch.randint(0, 8, (batch_size,))
