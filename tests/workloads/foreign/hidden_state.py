"""The hidden state goes on from batch to batch, detached, as in truncated backpropagation."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)
        self.state = None

    def forward(self, inputs):
        outputs, state = self.rnn(inputs, self.state)
        self.state = [each.detach() for each in state]
        return self.out(outputs[:, -1])


make_model = Recurrent


def make_dataset():
    series = torch.randn(128, 5, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(series, series[:, :, :3].sum(1).argmax(1))
