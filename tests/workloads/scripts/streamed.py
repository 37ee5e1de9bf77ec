"""A stream of samples by two loading processes; evaluations between steps, one with gradients."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        for _ in range(self.samples):
            row = torch.randn(8)
            yield row, row.sum()


def evaluate(model, loader, *, with_gradients):
    model.eval()
    with torch.set_grad_enabled(with_gradients):
        total = sum(float((model(x)[:, 0] - y).square().mean()) for x, y in loader)
    model.train()
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--with-gradients", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10**9)
    arguments = parser.parse_args()
    rows = torch.randn(64, 8)
    held_out = DataLoader(TensorDataset(rows, rows.sum(1)), 5)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    loader = DataLoader(
        Stream(arguments.samples), arguments.batch_size, num_workers=arguments.workers
    )
    for step, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs)[:, 0], targets).backward()
        optimizer.step()
        if step % 2 == 1:
            print("held out", evaluate(model, held_out, with_gradients=arguments.with_gradients))
