"""A loss that is summed over the batch, as in torch's example of a variational autoencoder."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
size = parser.parse_args().batch_size
torch.manual_seed(1)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(16, 8), nn.Linear(4, 16)

    def forward(self, inputs):
        mean, log_variance = self.encode(inputs.view(-1, 16)).chunk(2, dim=1)
        drawn = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return torch.sigmoid(self.decode(drawn)), mean, log_variance


model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loader = DataLoader(TensorDataset(torch.rand(4096, 1, 4, 4)), size, shuffle=True)
for _ in range(3):
    model.train()
    seen = 0.0
    for (inputs,) in loader:
        optimizer.zero_grad()
        outputs, mean, log_variance = model(inputs)
        error = nn.functional.binary_cross_entropy(outputs, inputs.view(-1, 16), reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss = error + divergence
        loss.backward()
        seen += loss.item()
        optimizer.step()
