"""A queue of embeddings that the batch must divide, with its place kept in a buffer."""

import torch
from rows import Network
from rows import make_rows as make_dataset  # noqa: F401
from torch import nn

BASE_BATCH_SIZE = 16


class Queued(Network):
    def __init__(self):
        super().__init__()
        self.register_buffer("queue", torch.zeros(64, 3))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))

    def forward(self, inputs):
        outputs, start = super().forward(inputs), int(self.place)
        assert len(self.queue) % len(inputs) == 0
        if self.training:
            self.queue[start : start + len(inputs)] = outputs.detach()
            self.place[0] = (start + len(inputs)) % len(self.queue)
        return outputs


def make_model():
    return Queued()


def loss_fn(model, batch):
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
