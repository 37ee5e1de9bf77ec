"""The file holds its loss as an instance beside the class of its model."""

import torch
from rows import make_rows as make_dataset  # noqa: F401
from torch import nn

criterion = nn.CrossEntropyLoss()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, inputs):
        return torch.relu(self.layer(inputs))


class Focal(nn.Module):
    def forward(self, logits, labels):
        return criterion(logits, labels)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = Block(), nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(self.block(inputs))


def loss_fn(model, batch):
    return Focal()(model(batch[0]), batch[1])
