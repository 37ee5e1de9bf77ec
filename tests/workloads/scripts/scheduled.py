"""A schedule of torch's by the step, batch normalisation, weight decay, clipping by value."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_training():
    """Return all that the loop needs."""
    torch.manual_seed(11)
    inputs = torch.randn(8192, 12)
    data = TensorDataset(inputs, inputs.abs().argmax(1))
    model = nn.Sequential(nn.Linear(12, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 12))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.2, momentum=0.9, nesterov=True, weight_decay=0.01
    )
    return data, model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)


def main():
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=16)
    size = parser.parse_args().batch_size
    data, model, optimizer, schedule = make_training()
    for batch, targets in DataLoader(data, size, shuffle=True, drop_last=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), targets).backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.02)
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
