"""The model is an instance that has run, and kept what it computed."""

import torch
from rows import INPUTS, Network
from rows import make_rows as make_dataset  # noqa: F401
from torch.nn.utils import spectral_norm


class Remembering(Network):
    def forward(self, inputs):
        self.last = [super().forward(inputs)]
        return self.last[0]


network = Remembering()
spectral_norm(network.head)
network(INPUTS[:2]).sum().backward()
assert isinstance(network.last[0], torch.Tensor)
