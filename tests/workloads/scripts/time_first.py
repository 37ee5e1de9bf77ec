"""A recurrent network over [time, batch], a hidden state from batch to batch, clipping by name."""

import argparse

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=20)
parser.add_argument("--by-value", action="store_true")
arguments = parser.parse_args()
torch.manual_seed(2)
size = arguments.batch_size
tokens = torch.randint(0, 30, (40_000 // size * size,)).view(size, -1).t().contiguous()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.cell = nn.Embedding(30, 12), nn.GRU(12, 24)
        self.head = nn.Linear(24, 30)

    def forward(self, inputs, hidden):
        outputs, hidden = self.cell(self.embed(inputs), hidden)
        return self.head(outputs).view(-1, 30), hidden


model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
hidden = torch.zeros(1, size, 24)
for start in range(0, len(tokens) - 8, 7):
    model.zero_grad()
    outputs, hidden = model(tokens[start : start + 7], hidden.detach())
    nn.functional.cross_entropy(outputs, tokens[start + 1 : start + 8].view(-1)).backward()
    if arguments.by_value:
        clip_grad_value_(model.parameters(), 0.1)
    else:
        clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()
